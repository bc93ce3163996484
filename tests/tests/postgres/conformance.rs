//! The suite that every store passes, with and without notifications.

use std::sync::Arc;

use ptn_core::store::conformance::StoreFactory;
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::{PgStore, SignalStore};
use ptn_tests::postgres::Database;
use tokio::sync::OnceCell;

#[derive(Default)]
struct Pg {
    database: OnceCell<Database>,
    deaf: bool,
}

impl Pg {
    fn deaf() -> Self {
        Self { deaf: true, ..Self::default() }
    }

    async fn options(&self) -> PgOptions {
        let database = self.database.get_or_init(Database::new).await;
        let mut options = super::options(&database.url());
        options.listen = !self.deaf;
        // The suite is about what happens, not how soon.
        options.patience = super::PATIENCE;
        options.lease = super::PATIENCE;
        options
    }

    async fn open(&self) -> Arc<dyn SignalStore> {
        let store = PgStore::open_owner(self.options().await).await.unwrap();
        super::delivers(&store).await;
        Arc::new(store)
    }
}

#[async_trait::async_trait]
impl StoreFactory for Pg {
    async fn create(&self) -> Arc<dyn SignalStore> {
        self.open().await
    }

    async fn reopen(&self, store: Arc<dyn SignalStore>) -> Arc<dyn SignalStore> {
        drop(store);
        self.open().await
    }
}

mod with_notifications {
    ptn_core::store_conformance!(super::Pg::default());
}

mod without_notifications {
    ptn_core::store_conformance!(super::Pg::deaf());
}
