//! Replacing a running process without refusing a request: the listening sockets themselves are
//! handed from the old process to the new one, so there is no moment without a listener, and no
//! connection that the kernel has already taken is reset.
//!
//! The old process waits at a socket of the file system in `.ptn/` of its data directory
//! ([`Offer`]). The new one asks there ([`take`]) and gets the sockets; nothing changes for the old
//! one until the new one says that it is ready ([`Taken::go`]). Should the new one die before that,
//! the old one goes on. Sockets that a service manager hands down are in [`super::sockets`].
//!
//! What must stay true: only processes of the same user are answered, and an old process that does
//! not answer costs the new one a few seconds, not its start.

use std::fs::DirBuilder;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio_util::sync::CancellationToken;

/// How long either side waits for a word of the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a process that ends looks whether it may, and the pause after a failure.
const BREATH: Duration = Duration::from_millis(200);
/// The most sockets that one process hands over.
const MOST: usize = 4;
const HELLO: &[u8] = b"ptn-handover-1\n";
const GO: &[u8] = b"go\n";

/// Where a process is asked for its sockets.
fn place(data_dir: &Path, who: &str) -> PathBuf {
    let name: String =
        who.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    data_dir.join(".ptn").join(format!("handover-{name}.sock"))
}

/// The longest path that the address of a socket takes, with room to spare.
const LONGEST: usize = 100;

/// Does something with the path of a socket, by a shorter name if it is too long for an address.
fn by_short_name<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (true, Some(folder), Some(name)) =
        (path.as_os_str().len() > LONGEST, path.parent(), path.file_name())
    else {
        return act(path);
    };
    let folder = std::fs::File::open(folder)?;
    let number = folder.as_fd().as_raw_fd();
    act(&Path::new("/proc/self/fd").join(number.to_string()).join(name))
}

/// The old process's side. To be kept until this process has let go of everything: its end is what
/// the new one waits for.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    /// The connection to the process that took over.
    taken: Arc<OnceLock<UnixStream>>,
}

impl Offer {
    /// Offers these sockets, each under a name, to the next process that asks for `who` in this data
    /// directory, until `stop`; which is cancelled when somebody took them over.
    ///
    /// # Errors
    /// When the file cannot be made; the process can run without.
    pub fn make(
        data_dir: &Path,
        who: &str,
        sockets: Vec<(&'static str, OwnedFd)>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let path = place(data_dir, who);
        if let Some(folder) = path.parent()
            && !folder.is_dir()
        {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        }
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // Of a process that is gone, or that we took over from.
            _ => {}
        }
        let listener = by_short_name(&path, |path| UnixListener::bind(path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let taken = Arc::new(OnceLock::new());
        tokio::spawn(offer(listener, Arc::new(sockets), stop, Arc::clone(&taken)));
        Ok(Self { path, taken })
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // The one that took over has put its own there.
        if self.taken.get().is_none() {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Answers one after the other. With its end the sockets are closed here.
async fn offer(
    listener: tokio::net::UnixListener,
    sockets: Arc<Vec<(&'static str, OwnedFd)>>,
    stop: CancellationToken,
    taken: Arc<OnceLock<UnixStream>>,
) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
        };
        let (sockets, end) = (Arc::clone(&sockets), stop.clone());
        let served = tokio::task::spawn_blocking(move || serve(stream?, &sockets, &end)).await;
        match served {
            Ok(Ok(Some(held))) => {
                taken.set(held).ok();
                tracing::info!("another process took the listening sockets over; this one ends");
                stop.cancel();
                return;
            }
            Ok(Ok(None)) => tracing::info!(
                "a process asked for the listening sockets and went away; this one goes on"
            ),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a hand-over failed; this process goes on");
                tokio::time::sleep(BREATH).await;
            }
            Err(_) => return,
        }
    }
}

/// One who asks: `Some` when it took over.
fn serve(
    mut stream: UnixStream,
    sockets: &[(&'static str, OwnedFd)],
    stop: &CancellationToken,
) -> io::Result<Option<UnixStream>> {
    stream.set_nonblocking(false)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    if peer.uid != rustix::process::geteuid() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is another user's process",
        ));
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut hello = [0; HELLO.len()];
    stream.read_exact(&mut hello)?;
    if hello != HELLO {
        return Err(io::Error::other("it does not speak this protocol"));
    }
    let names = sockets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    send(&stream, &format!("{names}\n"), sockets.iter().map(|(_, socket)| socket.as_fd()))?;
    // It opens its store and reads its keys meanwhile; a password may be typed.
    stream.set_read_timeout(Some(BREATH))?;
    let mut go = [0; GO.len()];
    loop {
        match stream.read_exact(&mut go) {
            Ok(()) if go == GO => return Ok(Some(stream)),
            Err(e) if is_timeout(&e) && !stop.is_cancelled() => {}
            _ => return Ok(None),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock | Interrupted)
}

fn send<'a>(
    stream: &UnixStream,
    text: &str,
    sockets: impl Iterator<Item = BorrowedFd<'a>>,
) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'a>> = sockets.take(MOST).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut more = SendAncillaryBuffer::new(&mut space);
    more.push(SendAncillaryMessage::ScmRights(&sockets));
    let sent = sendmsg(stream, &[IoSlice::new(text.as_bytes())], &mut more, SendFlags::empty())?;
    if sent < text.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// What a running process handed over. Dropping it before [`Taken::go`] leaves that one as it is.
#[derive(Debug)]
pub struct Taken {
    stream: UnixStream,
    sockets: Vec<(String, TcpListener)>,
}

/// Asks the process that runs as `who` on this data directory for its listening sockets; `None`
/// when there is none.
///
/// # Errors
/// When there is one and it does not answer as it should.
pub fn take(data_dir: &Path, who: &str) -> io::Result<Option<Taken>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let mut stream = match by_short_name(&place(data_dir, who), |path| UnixStream::connect(path)) {
        Ok(stream) => stream,
        // The file of a process that was killed refuses.
        Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(HELLO)?;
    let mut text = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut more = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut text)];
    let got = recvmsg(&stream, &mut into, &mut more, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in more.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            sockets.extend(list.map(TcpListener::from));
        }
    }
    let names = String::from_utf8_lossy(text.get(..got.bytes).unwrap_or_default()).into_owned();
    let names: Vec<&str> = names.trim_end().split(',').filter(|name| !name.is_empty()).collect();
    if got.bytes == 0 || names.len() != sockets.len() {
        return Err(io::Error::other("the running process does not hand its sockets over"));
    }
    let sockets = names.into_iter().map(str::to_owned).zip(sockets).collect();
    Ok(Some(Taken { stream, sockets }))
}

impl Taken {
    /// The socket of this name, once.
    pub fn socket(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.sockets.iter().position(|(known, _)| known == name)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Tells the other process to finish and end. From here on this one must serve.
    ///
    /// # Errors
    /// When the other one is gone already; then there is nothing to wait for either.
    pub fn go(mut self) -> io::Result<Leaving> {
        self.stream.write_all(GO)?;
        Ok(Leaving(self.stream))
    }
}

/// A process that finishes what it has under way.
#[derive(Debug)]
pub struct Leaving(UnixStream);

impl Leaving {
    /// Waits until it has ended; false when it has not after this time. Blocks the thread.
    pub fn wait(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut rest = [0; 16];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.0.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.0.read(&mut rest) {
                // Closed, by the kernel at the latest.
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if is_timeout(&e) => {}
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn offer(dir: &Path, stop: &CancellationToken) -> (Offer, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = vec![("server", OwnedFd::from(listener))];
        (Offer::make(dir, "127.0.0.1:8088", sockets, stop.clone()).unwrap(), address)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_changes_hands_with_the_connections_that_wait_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (offer, address) = offer(dir.path(), &stop);
        let mut early = std::net::TcpStream::connect(address).unwrap();
        early.write_all(b"early").unwrap();
        let mut taken = take(dir.path(), "127.0.0.1:8088").unwrap().unwrap();
        let socket = taken.socket("server").unwrap();
        assert!(taken.socket("server").is_none() && taken.socket("monitor").is_none());
        assert!(!stop.is_cancelled(), "nothing changes before the new one is ready");
        let mut leaving = taken.go().unwrap();
        stop.cancelled().await;
        let mut text = [0; 5];
        socket.accept().unwrap().0.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"early");
        let path = place(dir.path(), "127.0.0.1:8088");
        let ends = std::thread::spawn(move || leaving.wait(Duration::from_secs(30)));
        drop(offer);
        assert!(ends.join().unwrap());
        assert!(path.exists(), "it may be the new one's");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_may_be_as_deep_as_the_disk_allows() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        assert!(take(&deep, "127.0.0.1:8088").unwrap().is_none(), "nobody runs there");
        std::fs::create_dir_all(&deep).unwrap();
        let stop = CancellationToken::new();
        let (_offer, address) = offer(&deep, &stop);
        let mut taken = take(&deep, "127.0.0.1:8088").unwrap().unwrap();
        assert_eq!(taken.socket("server").unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_and_dies_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (offer, _) = offer(dir.path(), &stop);
        drop(take(dir.path(), "127.0.0.1:8088").unwrap().unwrap());
        let place = place(dir.path(), "127.0.0.1:8088");
        UnixStream::connect(&place).unwrap().write_all(b"GET / HTTP/1.1\r\n").unwrap();
        // They are served one after the other, so this one after both.
        let again = take(dir.path(), "127.0.0.1:8088").unwrap();
        assert!(again.is_some() && !stop.is_cancelled());
        drop(again);
        drop(offer);
        assert!(!place.exists());
        assert!(take(dir.path(), "127.0.0.1:8088").unwrap().is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_closes_the_sockets_also_while_somebody_is_asking() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (_offer, address) = offer(dir.path(), &stop);
        let mut asking = UnixStream::connect(place(dir.path(), "127.0.0.1:8088")).unwrap();
        asking.write_all(HELLO).unwrap();
        stop.cancel();
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(address).is_ok() {
            assert!(Instant::now() < end, "the socket stays open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn nobody_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(dir.path(), "miner").unwrap().is_none());
        std::fs::create_dir(dir.path().join(".ptn")).unwrap();
        drop(UnixListener::bind(place(dir.path(), "miner")).unwrap());
        assert!(take(dir.path(), "miner").unwrap().is_none(), "the file of a killed process");
    }
}
