//! WebSocket in, JSON-RPC out: one task reads, one writes, one per subscription forwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value as Json, json};
use soketto::handshake::{Server, server::Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rpc::{Answer, Fault, Stream, answer, fault};
use super::{Shared, lock};

static SUBSCRIPTION: AtomicU64 = AtomicU64::new(1);

/// Accepts connections until `stop`.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = socket else { continue };
        let end = stop.child_token();
        lock(&shared.connections).push(end.clone());
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = serve(socket, &shared, &end) => {}
            }
            end.cancel();
        });
    }
}

async fn serve(socket: TcpStream, shared: &Arc<Shared>, end: &CancellationToken) {
    socket.set_nodelay(true).ok();
    let mut server = Server::new(socket.compat());
    let key = match server.receive_request().await {
        Ok(request) => request.key(),
        Err(_) => return,
    };
    let accept = Response::Accept { key, protocol: None };
    if server.send_response(&accept).await.is_err() {
        return;
    }
    let (mut sender, mut receiver) = server.into_builder().finish();
    let (out, mut outgoing) = mpsc::unbounded_channel::<String>();
    let write = async {
        while let Some(text) = outgoing.recv().await {
            if sender.send_text_owned(text).await.is_err() || sender.flush().await.is_err() {
                break;
            }
        }
    };
    let read = async {
        let mut message = Vec::new();
        loop {
            message.clear();
            match receiver.receive_data(&mut message).await {
                Ok(_) => handle(&message, shared, &out, end),
                Err(_) => break,
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// Answers one message; subscriptions go on in tasks of their own.
fn handle(
    message: &[u8],
    shared: &Arc<Shared>,
    out: &mpsc::UnboundedSender<String>,
    end: &CancellationToken,
) {
    let Ok(request) = serde_json::from_slice::<Json>(message) else { return };
    let method = request.get("method").and_then(Json::as_str).unwrap_or_default();
    let id = request.get("id").cloned().unwrap_or_default();
    let params = request.get("params").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    *lock(&shared.requests).entry(method.to_owned()).or_default() += 1;
    let fault = fault(&mut lock(&shared.faults), method);
    match fault {
        Some(Fault::Stall) => return,
        Some(Fault::Drop) => return end.cancel(),
        _ => {}
    }
    let answer = answer(shared, method, params, fault.as_ref());
    if fault == Some(Fault::DoAndDrop) {
        return end.cancel();
    }
    let reply = |body: (&str, Json)| {
        let mut reply = json!({ "jsonrpc": "2.0", "id": id });
        if let Some(object) = reply.as_object_mut() {
            object.insert(body.0.to_owned(), body.1);
        }
        // A reader that is gone needs no answer.
        out.send(reply.to_string()).ok();
    };
    match answer {
        Answer::Result(result) => reply(("result", result)),
        Answer::Error(code, message, data) => {
            let mut error = json!({ "code": code, "message": message });
            if !data.is_empty()
                && let Some(object) = error.as_object_mut()
            {
                object.insert("data".to_owned(), json!(data));
            }
            reply(("error", error));
        }
        Answer::Stream(name, stream) => {
            let number = SUBSCRIPTION.fetch_add(1, Ordering::Relaxed);
            let subscription = format!("mock-{number}");
            reply(("result", json!(subscription)));
            tokio::spawn(forward(name, subscription, stream, out.clone(), end.clone()));
        }
    }
}

async fn forward(
    name: &'static str,
    subscription: String,
    mut stream: Stream,
    out: mpsc::UnboundedSender<String>,
    end: CancellationToken,
) {
    loop {
        let item = tokio::select! {
            () = end.cancelled() => return,
            item = stream.next() => item,
        };
        let Some(item) = item else { return };
        let params = json!({ "subscription": subscription, "result": item });
        let text = json!({ "jsonrpc": "2.0", "method": name, "params": params }).to_string();
        if out.send(text).is_err() {
            return;
        }
    }
}
