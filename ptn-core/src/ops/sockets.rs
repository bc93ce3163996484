//! Listening sockets from outside: a service manager that holds them while the process is replaced
//! (systemd's socket activation: `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`).
//!
//! Handing sockets from one of our processes to the next is left to [`super::handover`].

use std::net::TcpListener;

use listenfd::ListenFd;

/// The sockets that were handed down to this process.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, TcpListener)>);

impl Sockets {
    /// Takes what the environment says is for this process, once, and removes it from the
    /// environment. To be called while the process has one thread.
    ///
    /// # Errors
    /// When something else than listening TCP sockets was handed down; says which.
    pub fn from_env() -> Result<Self, String> {
        // What was meant for a parent is nothing for us.
        let meant = std::env::var("LISTEN_PID").ok().and_then(|pid| pid.parse::<u32>().ok());
        if meant != Some(std::process::id()) {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for n in 0..handed.len() {
            let name = names.get(n).copied().unwrap_or_default();
            let socket = handed.take_tcp_listener(n).map_err(|e| {
                format!(
                    "socket {n} ({name:?}) of the service manager cannot be used: {e}; give \
                     ListenStream=ADDRESS:PORT in the socket unit"
                )
            })?;
            sockets.extend(socket.map(|socket| (name.to_owned(), socket)));
        }
        Ok(Self(sockets))
    }

    /// The socket of this name (`FileDescriptorName=` of the socket unit); where no name of `all` is
    /// used, the one in the place of this name.
    pub fn take(&mut self, name: &str, all: &[&str]) -> Option<TcpListener> {
        let named = self.0.iter().any(|(known, _)| all.contains(&known.as_str()));
        let at = if named {
            self.0.iter().position(|(known, _)| known == name)
        } else {
            // The first that is asked for gets the first.
            (!self.0.is_empty()).then_some(0)
        };
        Some(self.0.remove(at?).1)
    }

    /// Whether some are left that nobody asked for.
    pub fn left(&self) -> Vec<String> {
        let name = |(name, socket): &(String, TcpListener)| match socket.local_addr() {
            Ok(address) => format!("{address} ({name})"),
            Err(_) => name.clone(),
        };
        self.0.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(names: &[&str]) -> (Sockets, Vec<u16>) {
        let list: Vec<_> = names
            .iter()
            .map(|name| ((*name).to_owned(), TcpListener::bind("127.0.0.1:0").unwrap()))
            .collect();
        let ports = list.iter().map(|(_, s)| s.local_addr().unwrap().port()).collect();
        (Sockets(list), ports)
    }

    #[test]
    fn sockets_go_by_their_names_and_without_names_by_their_places() {
        let all = ["server", "monitor"];
        let port = |s: Option<TcpListener>| s.map(|s| s.local_addr().unwrap().port());
        let (mut named, ports) = sockets(&["monitor", "server"]);
        assert_eq!(port(named.take("server", &all)), Some(ports[1]));
        assert_eq!(port(named.take("server", &all)), None);
        assert_eq!(port(named.take("monitor", &all)), Some(ports[0]));
        let (mut plain, ports) = sockets(&["ptn.socket", "ptn.socket"]);
        assert_eq!(port(plain.take("server", &all)), Some(ports[0]));
        assert_eq!(plain.left().len(), 1);
        assert_eq!(port(plain.take("monitor", &all)), Some(ports[1]));
        assert_eq!(port(plain.take("monitor", &all)), None);
        assert_eq!(port(Sockets::default().take("server", &all)), None);
    }
}
