//! Every store passes one suite; and what only the store on disk promises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is how a test fails")]

mod memory {
    use std::sync::Arc;

    use ptn_core::store::conformance::StoreFactory;
    use ptn_core::store::{MemoryStore, SignalStore};

    struct Memory;

    #[async_trait::async_trait]
    impl StoreFactory for Memory {
        async fn create(&self) -> Arc<dyn SignalStore> {
            Arc::new(MemoryStore::new())
        }
        async fn reopen(&self, _: Arc<dyn SignalStore>) -> Arc<dyn SignalStore> {
            unreachable!("nothing survives")
        }
        fn survives(&self) -> bool {
            false
        }
    }

    ptn_core::store_conformance!(Memory);
}

mod fs {
    use std::path::Path;
    use std::sync::Arc;

    use ptn_core::rules::{Era, Rules};
    use ptn_core::store::conformance::StoreFactory;
    use ptn_core::store::fs::FsOptions;
    use ptn_core::store::{FsStore, SignalStore};
    use tempfile::TempDir;

    struct Fs {
        dir: TempDir,
        options: fn() -> FsOptions,
    }

    fn options() -> FsOptions {
        FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()))
    }

    impl Fs {
        fn new(options: fn() -> FsOptions) -> Self {
            Self { dir: TempDir::new().unwrap(), options }
        }
        fn open(&self, dir: &Path) -> Arc<dyn SignalStore> {
            Arc::new(FsStore::open_owner(dir, (self.options)()).unwrap())
        }
    }

    #[async_trait::async_trait]
    impl StoreFactory for Fs {
        async fn create(&self) -> Arc<dyn SignalStore> {
            self.open(&self.dir.path().join("mining"))
        }
        async fn reopen(&self, store: Arc<dyn SignalStore>) -> Arc<dyn SignalStore> {
            drop(store);
            self.open(&self.dir.path().join("mining"))
        }
    }

    mod usual {
        ptn_core::store_conformance!(super::Fs::new(super::options));
    }

    /// The journal is rewritten all the time.
    mod short_journal {
        ptn_core::store_conformance!(super::Fs::new(|| {
            let mut options = super::options();
            options.journal_bytes = 1;
            options
        }));
    }

    mod without_inotify {
        ptn_core::store_conformance!(super::Fs::new(|| {
            let mut options = super::options();
            options.inotify = false;
            options
        }));
    }
}
