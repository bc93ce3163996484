//! A panic in a part of the engine: everything ends at once, and a new engine goes on as after a crash.

use std::sync::atomic::AtomicBool;

use ptn_core::deliver::EngineError;

use super::*;

/// A clock that works until it is broken.
fn fragile(broken: &Arc<AtomicBool>) -> Clock {
    let (broken, clock) = (Arc::clone(broken), paused_clock());
    Arc::new(move || {
        assert!(!broken.load(Ordering::SeqCst), "the clock broke, as this test wants it to");
        clock()
    })
}

async fn what_a_panic_leaves_is_continued(break_it: impl AsyncFnOnce(&Bench, &AtomicBool)) {
    let broken = Arc::new(AtomicBool::new(false));
    let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
    let slow = || ScriptedTransport::new([], true).slow("v2", Duration::from_secs(1));
    let first =
        Bench::by_clock(fragile(&broken), Arc::clone(&store), Era::Y2026, three(), slow(), |_| {});
    first.send("before", "BTCUSDC").await.finished().await.unwrap();
    break_it(&first, &broken).await;
    assert_eq!(first.engine.failed().await, EngineError::Panicked);
    first.engine.shutdown(Duration::from_secs(10)).await;
    let sent = first.transport.seen().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(first.transport.seen().len(), sent, "nothing is sent any more");
    let state = |id: &str| {
        let (id, store) = (OrderUuid::parse(id).unwrap(), Arc::clone(&store));
        async move { store.get(&id).await.unwrap().unwrap() }
    };
    assert_eq!(state("during").await.state, SignalState::Pending);

    store.release_claims();
    let second = Bench::on(Arc::clone(&store), Era::Y2026, three(), slow(), |_| {});
    let stored = second.finished("during").await;
    assert_eq!(stored.state, SignalState::Processed, "{}", stored.reason);
    assert_eq!(state("before").await.state, SignalState::Processed);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_an_answer_is_judged_ends_the_engine_and_loses_nothing() {
    what_a_panic_leaves_is_continued(async |bench, broken| {
        bench.send("during", "BTCUSDC").await;
        while bench.transport.uuids("v2").len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        broken.store(true, Ordering::SeqCst);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_signal_is_taken_up_ends_the_engine_and_loses_nothing() {
    what_a_panic_leaves_is_continued(async |bench, broken| {
        broken.store(true, Ordering::SeqCst);
        bench.send("during", "BTCUSDC").await;
    })
    .await;
}
