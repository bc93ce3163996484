//! Which store the settings name, and opening it: the data directory, or a PostgreSQL database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{ConfigError, Origin, Settings, expand_home};
use crate::rules::Rules;
use crate::store::fs::FsOptions;
use crate::store::postgres::PgOptions;
use crate::store::transfer::Transfer;
use crate::store::{FsStore, PgStore, SignalStore, StoreError};

/// SQLSTATE of a database that is not there.
const NO_SUCH_DATABASE: &str = "3D000";

/// A store that is not open yet.
#[derive(Debug, Clone)]
pub enum Place {
    /// A data directory, and the bytes that must stay free on its disk.
    Dir(PathBuf, u64),
    /// A database.
    Postgres(Box<PgOptions>),
}

impl Place {
    /// The store that the settings name: `--store`, otherwise the data directory.
    ///
    /// # Errors
    /// When the address or the lease cannot be used.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let Some(text) = settings.get("store").filter(|text| *text != "fs") else {
            let min_free = settings.bytes("spool.min_free")?.unwrap_or(0);
            return Ok(Self::Dir(settings.data_dir(), min_free));
        };
        let mut place = Self::parse(text).map_err(|why| settings.bad("store", why))?;
        if let Self::Postgres(options) = &mut place {
            if let Some(lease) = settings.duration("store_lease")? {
                if lease < std::time::Duration::from_secs(1) {
                    return Err(settings.bad("store_lease", "at least 1s"));
                }
                options.lease = lease;
            }
            if *settings.origin("store") == Origin::Flag("store")
                && super::settings::hide_password(text) != text
            {
                tracing::warn!(
                    "the password in --store can be read in the list of processes: give it with PTN_STORE, PGPASSWORD or .pgpass"
                );
            }
        }
        Ok(place)
    }

    /// Reads `fs:DIR`, `postgres://..`, or `postgres`, whose address is in `DATABASE_URL`.
    ///
    /// # Errors
    /// What is allowed; never the text itself, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(dir) = text.strip_prefix("fs:").filter(|dir| !dir.is_empty()) {
            return Ok(Self::Dir(expand_home(dir), 0));
        }
        let from_env;
        let address = if ["postgres", "postgres:", "postgresql"].contains(&text) {
            from_env = std::env::var("DATABASE_URL").map_err(|_| {
                "postgres without an address takes it from DATABASE_URL, which is not set"
                    .to_owned()
            })?;
            from_env.as_str()
        } else if text.starts_with("postgres") {
            text
        } else {
            return Err(
                "allowed: fs, fs:DIR, postgres://USER@HOST:PORT/DATABASE, or postgres for the address in DATABASE_URL"
                    .to_owned(),
            );
        };
        PgOptions::new(address).map(|o| Self::Postgres(Box::new(o))).map_err(|e| e.to_string())
    }

    /// Its name, without a password.
    pub fn name(&self) -> String {
        match self {
            Self::Dir(dir, _) => dir.display().to_string(),
            Self::Postgres(options) => options.name().to_owned(),
        }
    }

    /// The data directory, if it is one.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::Dir(dir, _) => Some(dir),
            Self::Postgres(_) => None,
        }
    }

    /// Opens it to accept signals and to look at them.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub async fn open(&self, rules: &Arc<Rules>) -> Result<Opened, StoreError> {
        self.look(rules).await.map_err(|error| self.advise(error))
    }

    async fn look(&self, rules: &Arc<Rules>) -> Result<Opened, StoreError> {
        Ok(match self {
            Self::Dir(dir, min_free) => {
                let mut options = FsOptions::new(Arc::clone(rules));
                options.min_free = *min_free;
                Opened::Fs(Arc::new(FsStore::open(dir, options)?))
            }
            Self::Postgres(options) => {
                Opened::Pg(Arc::new(PgStore::open(options.as_ref().clone()).await?))
            }
        })
    }

    /// Opens it to deliver from it.
    ///
    /// # Errors
    /// When the store cannot be opened, or somebody else owns the data directory.
    pub async fn open_owner(&self, rules: &Arc<Rules>) -> Result<Opened, StoreError> {
        self.own(rules, false).await
    }

    /// Opens it to move its signals away, or others in.
    ///
    /// # Errors
    /// When the store cannot be opened, or somebody delivers from it.
    pub async fn open_to_move(&self, rules: &Arc<Rules>) -> Result<Opened, StoreError> {
        let opened = self.own(rules, true).await?;
        if let Opened::Pg(store) = &opened {
            let mut delivering = store.delivering();
            let wait = delivering.wait_for(|delivers| *delivers);
            let patience = std::time::Duration::from_secs(3);
            if !matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_))) {
                let owner = store.owner().await?;
                let owner = owner.map_or_else(|| "somebody".to_owned(), |owner| owner.name);
                store.close().await;
                return Err(StoreError::InUse { server: store.name().to_owned(), owner });
            }
        }
        Ok(opened)
    }

    /// Says what to do where the store cannot know it.
    fn advise(&self, error: StoreError) -> StoreError {
        match (self, error) {
            (Self::Postgres(options), StoreError::Database { server, code, why })
                if code == NO_SUCH_DATABASE =>
            {
                let name = options.name().rsplit('/').next().unwrap_or("NAME").to_owned();
                let why = format!("{why}; make it: createdb {name} (as a role that may)");
                StoreError::Database { server, code, why }
            }
            (Self::Dir(..), StoreError::Io { what, path, source })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                let why = format!(
                    "{source}; run this as the owner of the data directory, or name another --data-dir"
                );
                let source = std::io::Error::new(source.kind(), why);
                StoreError::Io { what, path, source }
            }
            (_, error) => error,
        }
    }

    async fn own(&self, rules: &Arc<Rules>, even_if_moved: bool) -> Result<Opened, StoreError> {
        self.take(rules, even_if_moved).await.map_err(|error| self.advise(error))
    }

    async fn take(&self, rules: &Arc<Rules>, even_if_moved: bool) -> Result<Opened, StoreError> {
        Ok(match self {
            Self::Dir(dir, min_free) => {
                let mut options = FsOptions::new(Arc::clone(rules));
                options.min_free = *min_free;
                options.even_if_moved = even_if_moved;
                Opened::Fs(Arc::new(FsStore::open_owner(dir, options)?))
            }
            Self::Postgres(options) => {
                let mut options = options.as_ref().clone();
                options.even_if_moved = even_if_moved;
                Opened::Pg(Arc::new(PgStore::open_owner(options).await?))
            }
        })
    }
}

/// An open store.
#[derive(Debug, Clone)]
pub enum Opened {
    /// A data directory.
    Fs(Arc<FsStore>),
    /// A database.
    Pg(Arc<PgStore>),
}

impl Opened {
    /// The store.
    pub fn signals(&self) -> Arc<dyn SignalStore> {
        match self {
            Self::Fs(store) => Arc::clone(store) as _,
            Self::Pg(store) => Arc::clone(store) as _,
        }
    }

    /// The store, for moving its signals.
    pub fn as_transfer(&self) -> &dyn Transfer {
        match self {
            Self::Fs(store) => store.as_ref(),
            Self::Pg(store) => store.as_ref(),
        }
    }

    /// Its name, without a password.
    pub fn name(&self) -> String {
        match self {
            Self::Fs(store) => store.dir().display().to_string(),
            Self::Pg(store) => store.name().to_owned(),
        }
    }

    /// Says what files in a data directory nobody looks at, because the signals are in a database.
    pub fn passed_over(&self, data_dir: &Path) -> Option<String> {
        let Self::Pg(store) = self else { return None };
        let folder = data_dir.join("received_signals");
        let files = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        (files > 0).then(|| {
            format!(
                "{files} in {} will not be sent: with {} nothing is picked up there; give each to ptn-cli send --file, or move a data directory's signals with ptn-cli signals migrate",
                folder.display(),
                store.name()
            )
        })
    }

    /// Waits until the store stops for good, and says why. A database does not: it is waited for.
    pub async fn failed(&self) -> StoreError {
        match self {
            Self::Fs(store) => store.failed().await,
            Self::Pg(_) => std::future::pending().await,
        }
    }

    /// Finishes what was asked for, and lets another process deliver.
    pub async fn close(&self) {
        if let Self::Pg(store) = self {
            store.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_how_to_make_it() {
        let place = Place::parse("postgres://me:hunter2@db/firm").unwrap();
        let database = |code: &str| StoreError::Database {
            server: place.name(),
            code: code.to_owned(),
            why: "database \"firm\" does not exist".to_owned(),
        };
        let said = place.advise(database("3D000")).to_string();
        assert!(said.contains("createdb firm") && !said.contains("hunter2"), "{said}");
        assert!(!place.advise(database("42501")).to_string().contains("createdb"));
        let denied = |kind| StoreError::Io {
            what: "cannot read",
            path: PathBuf::from("/x/received_signals"),
            source: std::io::Error::from(kind),
        };
        let place = Place::parse("fs:/x").unwrap();
        let said = place.advise(denied(std::io::ErrorKind::PermissionDenied)).to_string();
        assert!(said.contains("as the owner of the data directory"), "{said}");
        let said = place.advise(denied(std::io::ErrorKind::Other)).to_string();
        assert!(!said.contains("owner"), "{said}");
    }

    #[test]
    fn a_place_is_a_folder_or_a_database() {
        assert_eq!(Place::parse("fs:/x").unwrap().dir(), Some(Path::new("/x")));
        let place = Place::parse("postgres://me:hunter2@db/ptn").unwrap();
        assert_eq!(place.name(), "postgres://db:5432/ptn");
        assert!(!format!("{place:?}").contains("hunter2"));
        for bad in ["", "mysql://me:hunter2@db/x", "postgres://me:hunter2@db:port/x", "x"] {
            let why = Place::parse(bad).unwrap_err();
            assert!(why.contains("postgres://USER@HOST") && !why.contains("hunter2"), "{why}");
        }
    }
}
