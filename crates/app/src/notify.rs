//! Notifies a service manager by sd_notify(3), over the datagram socket in `NOTIFY_SOCKET`, if there is
//! one.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};

/// The service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceManager(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl ServiceManager {
    /// The manager at `socket`: a path, or `@NAME` in Linux' abstract namespace.
    pub(super) fn at(socket: Option<PathBuf>) -> Self {
        let Some(socket) = socket else { return Self::default() };
        match connected(&socket) {
            Ok(pair) => Self(Some(Arc::new(pair))),
            Err(error) => {
                tracing::warn!(%error, socket = %socket.display(), "NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// The gateway serves, or a reload has ended.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving\n");
    }

    /// A reload begins. The manager tells reloads apart by their time.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"));
    }

    /// The gateway has begun to stop.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining\n");
    }

    fn tell(&self, text: &str) {
        let Some(manager) = &self.0 else { return };
        let (socket, addr) = &**manager;
        if let Err(error) = socket.send_to_addr(text.as_bytes(), addr) {
            tracing::warn!(%error, "the service manager cannot be notified");
        }
    }
}

fn connected(socket: &std::path::Path) -> io::Result<(UnixDatagram, SocketAddr)> {
    let own = UnixDatagram::unbound()?;
    // A manager that does not read must not block the gateway.
    own.set_nonblocking(true)?;
    Ok((own, address(socket)?))
}

fn address(socket: &std::path::Path) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        if let Some(name) = socket.as_os_str().as_bytes().strip_prefix(b"@") {
            return SocketAddr::from_abstract_name(name);
        }
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_notification_that_nobody_receives_is_dropped_and_the_next_one_arrives() {
        ServiceManager::at(None).ready();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("notify");
        let manager = ServiceManager::at(Some(at.clone()));
        manager.ready();
        assert!(!at.exists(), "no socket is made");
        let listener = UnixDatagram::bind(&at).unwrap();
        listener.set_nonblocking(true).unwrap();
        manager.stopping();
        assert!(said(&listener).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn the_service_manager_is_notified_through_a_socket_path() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let manager = ServiceManager::at(Some(dir.path().join("notify")));
        manager.ready();
        assert!(said(&listener).starts_with("READY=1\n"));
        manager.reloading();
        let reloading = said(&listener);
        let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{reloading}");
        manager.stopping();
        assert!(said(&listener).starts_with("STOPPING=1\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_service_manager_is_notified_through_an_abstract_socket() {
        let name = format!("keyward-test-{}", std::process::id());
        let at = PathBuf::from(format!("@{name}"));
        let listener = UnixDatagram::bind_addr(&address(&at).unwrap()).unwrap();
        ServiceManager::at(Some(at)).ready();
        assert!(said(&listener).starts_with("READY=1\n"));
    }
}
