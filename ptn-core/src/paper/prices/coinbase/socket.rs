//! The connection: TCP, TLS by rustls with the system's certificates, WebSocket. Every wait ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{CoinbaseSettings, FeedProblem, message};

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// What came.
pub(super) enum Frame {
    Text(String),
    /// A sign of life without a message.
    Other,
}

/// An open WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn Bytes>>,
    send_timeout: Duration,
    most_bytes: usize,
}

impl Socket {
    /// Opens it.
    pub(super) async fn connect(settings: &CoinbaseSettings) -> Result<Self, FeedProblem> {
        let after = settings.connect_timeout;
        let connect = timeout(after, open(settings)).await;
        let stream = connect.map_err(|_| FeedProblem::Timeout { what: "connecting", after })??;
        let most_bytes = settings.most_message_bytes;
        Ok(Self { stream, send_timeout: after, most_bytes })
    }

    /// Waits for a frame. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Frame, FeedProblem> {
        let ended = || FeedProblem::Closed { reason: "without a word".to_owned() };
        match self.stream.next().await.ok_or_else(ended)? {
            Ok(Message::Text(text)) => Ok(Frame::Text(text.as_str().to_owned())),
            Ok(Message::Close(Some(frame))) => {
                let reason = format!("code {}, {}", u16::from(frame.code), frame.reason.as_str());
                Err(FeedProblem::Closed {
                    reason: message::harmless(reason.trim_end_matches(", ")),
                })
            }
            Ok(Message::Close(None)) => Err(ended()),
            Ok(_) => Ok(Frame::Other),
            Err(WsError::Capacity(_)) => Err(FeedProblem::TooLarge { most: self.most_bytes }),
            Err(e) => Err(lost(&e)),
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, text: String) -> Result<(), FeedProblem> {
        let sent = self.stream.send(Message::text(text));
        bounded(sent, self.send_timeout, "sending").await
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), FeedProblem> {
        let sent = self.stream.send(Message::Ping(Vec::new().into()));
        bounded(sent, self.send_timeout, "sending").await
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

async fn bounded(
    work: impl Future<Output = Result<(), WsError>>,
    after: Duration,
    what: &'static str,
) -> Result<(), FeedProblem> {
    let done = timeout(after, work).await.map_err(|_| FeedProblem::Timeout { what, after })?;
    done.map_err(|e| lost(&e))
}

fn lost(e: &WsError) -> FeedProblem {
    FeedProblem::Lost { reason: message::harmless(&e.to_string()) }
}

async fn open(settings: &CoinbaseSettings) -> Result<WebSocketStream<Box<dyn Bytes>>, FeedProblem> {
    let url = &settings.url;
    let unreachable = |e: std::io::Error| FeedProblem::Unreachable { reason: e.to_string() };
    let tcp = TcpStream::connect((url.host(), url.port())).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let bytes: Box<dyn Bytes> = if url.is_encrypted() {
        let insecure = |e: &dyn fmt::Display| FeedProblem::Insecure { reason: e.to_string() };
        let config = tls(&settings.extra_roots).map_err(|e| insecure(&e))?;
        let name = ServerName::try_from(url.host().to_owned()).map_err(|e| insecure(&e))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        Box::new(stream.map_err(|e| insecure(&e))?)
    } else {
        Box::new(tcp)
    };
    let refused = |e: WsError| FeedProblem::Handshake { reason: message::harmless(&e.to_string()) };
    let mut request = url.as_str().into_client_request().map_err(refused)?;
    let agent = HeaderValue::from_static(concat!("ptn-core/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(header::USER_AGENT, agent);
    let most = settings.most_message_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .max_message_size(Some(most))
        .max_frame_size(Some(most));
    let (stream, _) =
        client_async_with_config(request, bytes, Some(config)).await.map_err(refused)?;
    Ok(stream)
}

/// The system's certificates and some more, with the cryptography that the chain's connections use too.
fn tls(extra_roots: &[Vec<u8>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = extra_roots.iter().map(|root| CertificateDer::from(root.clone()));
    let verifier = Verifier::new_with_extra_roots(roots)?.with_provider(Arc::clone(&provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // rustls' word for any verifier of one's own; this one asks the system.
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}
