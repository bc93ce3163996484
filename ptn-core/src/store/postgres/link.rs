//! Connections to the server: opened when needed, bounded in time, thrown away on any doubt.
//!
//! Every statement is one round trip that commits by itself, so a process that stops in the middle
//! of its work never holds a lock. What to do about a failure is left to the callers; what they
//! must know is whether the statement may have taken effect all the same ([`Trouble::maybe`]).

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, Postgres};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::store::StoreError;

/// Reaching the server and logging in.
const CONNECT: Duration = Duration::from_secs(3);
/// One statement. The server gives up a little earlier, so that its answer says what happened.
const STATEMENT: Duration = Duration::from_secs(6);

/// What holds for every connection, whatever the role's and the database's defaults are. The commit
/// is what makes an acceptance durable, so it is never asynchronous.
const SETTINGS: &str = "SELECT set_config('statement_timeout', '5s', false), \
     set_config('lock_timeout', '4s', false), \
     set_config('idle_in_transaction_session_timeout', '30s', false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     CASE current_setting('synchronous_commit') WHEN 'off' \
     THEN set_config('synchronous_commit', 'on', false) END";

pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// Where the server is, and how to log in. Shows no password.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    pub(super) name: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

impl Server {
    pub(super) fn parse(address: &str) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::Address { why: why.to_owned() };
        if !["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(bad("it does not begin with postgres://"));
        }
        // What a parser says about its input may quote it, and there may be a password in it.
        let options: PgConnectOptions =
            address.parse().map_err(|_| bad("it cannot be read as an address"))?;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let name = format!("postgres://{host}/{database}");
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("ptn"),
        };
        Ok(Self { options: options.disable_statement_logging(), name })
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

/// What went wrong with a statement.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    kind: Kind,
    /// The statement may have taken effect: nobody knows whether it was committed.
    pub(super) maybe: bool,
    why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// It may work in a moment.
    Passing,
    /// The server's disk is full.
    Full,
    /// The server said no, and will again.
    Refused(String),
}

impl Trouble {
    fn passing(maybe: bool, why: impl Into<String>) -> Self {
        Self { kind: Kind::Passing, maybe, why: why.into() }
    }

    /// What was just there is not any more.
    pub(super) fn vanished() -> Self {
        Self::passing(true, "a signal was there and is not any more")
    }

    /// An earlier statement may have taken effect.
    pub(super) fn in_doubt(self) -> Self {
        Self { maybe: true, ..self }
    }

    /// What failed changes nothing.
    pub(super) fn harmless(self) -> Self {
        Self { maybe: false, ..self }
    }

    /// Whether to try again.
    pub(super) fn is_passing(&self) -> bool {
        self.kind == Kind::Passing
    }

    pub(super) fn into_error(self, server: &str) -> StoreError {
        let (server, maybe) = (server.to_owned(), self.maybe);
        match self.kind {
            Kind::Passing => StoreError::Unavailable { server, why: self.why, maybe },
            // An earlier try may have been carried out, whatever was said to the last one.
            Kind::Full if maybe => StoreError::Unavailable {
                server,
                why: format!("its disk is full: {}", self.why),
                maybe,
            },
            Kind::Refused(code) if maybe => {
                StoreError::Unavailable { server, why: format!("({code}) {}", self.why), maybe }
            }
            Kind::Full => StoreError::Full { path: server.into() },
            Kind::Refused(code) => StoreError::Database { server, code, why: self.why },
        }
    }

    /// `sent`: whether the statement was on its way.
    pub(super) fn of(error: &sqlx::Error, sent: bool) -> Self {
        let sqlx::Error::Database(said) = error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::TypeNotFound { .. } => Self {
                    kind: Kind::Refused("unexpected_data".to_owned()),
                    maybe: sent,
                    why: error.to_string(),
                },
                _ => Self::passing(sent, error.to_string()),
            };
        };
        let code = said.code().unwrap_or_default().into_owned();
        let why = said.message().to_owned();
        // SQLSTATE classes: 08 connection, 53 resources, 57 operator intervention, 40 rolled back,
        // 55P03 lock timeout, 25006 a standby, 0A000 the plan is stale, 26000 the prepared statement
        // is gone, 28 and 3D at the login.
        let kind = match code.as_str() {
            "53100" => Kind::Full,
            "55P03" | "25006" | "0A000" | "26000" | "57014" => Kind::Passing,
            _ if ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class)) => {
                Kind::Passing
            }
            _ => Kind::Refused(code.clone()),
        };
        // An error of the statement itself rolled it back; the end of the session may have come
        // after the commit.
        let maybe = sent && (code.starts_with("57P") || code.starts_with("08"));
        Self { kind, maybe, why }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    server: Server,
    connection: Option<PgConnection>,
    /// The connection was made since somebody asked.
    new: bool,
    patience: Duration,
}

impl Link {
    pub(super) fn new(server: &Server) -> Self {
        Self { server: server.clone(), connection: None, new: false, patience: STATEMENT }
    }

    /// With less patience for each statement.
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(STATEMENT);
        self
    }

    async fn open(&mut self, patience: Duration) -> Result<&mut PgConnection, Trouble> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.server, CONNECT.min(patience)).await?;
                self.new = true;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Whether the connection was made since this was last asked: then it may be to another server,
    /// or to one that lacks its last commits.
    pub(super) fn is_new(&mut self) -> bool {
        std::mem::take(&mut self.new)
    }

    /// Runs one statement. A connection about which there is any doubt is not used again.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>, Trouble> {
        self.rows_within(self.patience, statement).await
    }

    async fn rows_within(
        &mut self,
        patience: Duration,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Trouble> {
        let began = Instant::now();
        let connection = self.open(patience).await?;
        let patience = patience.saturating_sub(began.elapsed());
        let trouble = match timeout(patience, statement.fetch_all(connection)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(e)) => Trouble::of(&e, true),
            Err(_) => {
                Trouble::passing(true, format!("no answer within {} ms", patience.as_millis()))
            }
        };
        if trouble.is_passing() {
            self.connection = None;
        }
        Err(trouble)
    }

    /// Runs a statement that may be run twice, until it works or `deadline` has passed.
    pub(super) async fn persist(
        &mut self,
        deadline: Instant,
        statement: impl Fn() -> Statement,
    ) -> Result<Vec<PgRow>, Trouble> {
        let mut backoff = Backoff::default();
        let (mut maybe, mut earlier) = (false, None);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.rows_within(self.patience.min(left), statement()).await {
                Ok(rows) => return Ok(rows),
                Err(trouble) => {
                    maybe |= trouble.maybe;
                    if !trouble.is_passing() || !backoff.wait(deadline).await {
                        // A try that had hardly any time left knows less than the one before.
                        let hurried = trouble.is_passing() && Instant::now() >= deadline;
                        let told = if hurried { earlier.unwrap_or(trouble) } else { trouble };
                        return Err(Trouble { maybe, ..told });
                    }
                    earlier = Some(trouble);
                }
            }
        }
    }
}

/// Connects, and sets what holds for every connection.
pub(super) async fn connect(server: &Server, patience: Duration) -> Result<PgConnection, Trouble> {
    let open = async {
        let mut connection = PgConnection::connect_with(&server.options).await?;
        sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
        Ok(connection)
    };
    match timeout(patience, open).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(e)) => Err(Trouble::of(&e, false)),
        Err(_) => Err(Trouble::passing(
            false,
            format!("no connection within {} ms", patience.as_millis()),
        )),
    }
}

/// Short waits that grow: 20 ms to 500 ms.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl Backoff {
    /// Waits; false when that would be too long.
    pub(super) async fn wait(&mut self, deadline: Instant) -> bool {
        if Instant::now() + self.0 >= deadline {
            return false;
        }
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_millis(500));
        true
    }
}

/// A few connections for reading, cancelling and retrying.
#[derive(Debug)]
pub(super) struct Links {
    server: Server,
    idle: Mutex<Vec<Link>>,
    permits: Semaphore,
    patience: Duration,
}

impl Links {
    pub(super) fn new(server: &Server, most: usize, patience: Duration) -> Self {
        let (idle, permits) = (Mutex::default(), Semaphore::new(most));
        Self { server: server.clone(), idle, permits, patience }
    }

    /// Runs a statement that may be run twice.
    pub(super) async fn rows(
        &self,
        statement: impl Fn() -> Statement,
    ) -> Result<Vec<PgRow>, Trouble> {
        let deadline = Instant::now() + self.patience;
        let Ok(Ok(_permit)) = tokio::time::timeout_at(deadline, self.permits.acquire()).await
        else {
            return Err(Trouble::passing(false, "every connection of this process is busy"));
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut link = idle.unwrap_or_else(|| Link::new(&self.server));
        let result = link.persist(deadline, statement).await;
        if link.connection.is_some() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
        result
    }

    /// As [`Links::rows`], with the error that callers of the store see.
    pub(super) async fn read(
        &self,
        statement: impl Fn() -> Statement,
    ) -> Result<Vec<PgRow>, StoreError> {
        // Reading changes nothing, so there is no doubt about it either.
        self.rows(statement).await.map_err(|t| t.harmless().into_error(&self.server.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let server = Server::parse("postgres://me:hunter2@db.example:5433/ptn").unwrap();
        assert_eq!(server.name, "postgres://db.example:5433/ptn");
        assert!(!format!("{server:?} {:?}", Link::new(&server)).contains("hunter2"));
        for bad in ["postgres://me:hunter2@db:port/x", "mysql://me:hunter2@db/x", "hunter2", ""] {
            let error = Server::parse(bad).unwrap_err();
            assert_eq!(error.code(), "store_address");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
