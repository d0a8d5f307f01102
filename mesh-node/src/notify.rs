//! Notifies the service manager that the agent is ready (sd_notify(3)), so that units ordered after it can use it.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The variable that holds the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Reports that the agent answers requests.
pub(crate) fn ready() {
    let Some(socket) = env::var_os(SOCKET) else { return };
    if let Err(error) = notify(socket.as_bytes(), b"READY=1") {
        tracing::warn!(%error, socket = %socket.display(), "cannot notify the service manager that the agent is ready");
    }
}

fn notify(socket: &[u8], what: &[u8]) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    fn received(by: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 16];
        let length = by.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn the_manager_is_notified_at_a_path_and_at_an_abstract_name() {
        let scratch = Scratch::new("notify");
        let path = scratch.0.join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str().as_bytes(), b"READY=1").unwrap();
        assert_eq!(received(&manager), b"READY=1");
        let name = path.as_os_str().as_bytes();
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        notify(&[b"@", name].concat(), b"READY=1").unwrap();
        assert_eq!(received(&manager), b"READY=1");
        assert!(notify(scratch.0.join("missing").as_os_str().as_bytes(), b"READY=1").is_err());
    }
}
