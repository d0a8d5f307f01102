//! Tells a service manager that the agent is up (sd_notify(3)), so that what is ordered behind it finds the agent there.

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

/// Where the manager listens, if there is one that wants to know.
const SOCKET: &str = "NOTIFY_SOCKET";

/// From now on the agent answers.
pub(crate) fn ready() {
    let Some(socket) = env::var_os(SOCKET) else { return };
    if let Err(error) = tell(socket.as_bytes(), b"READY=1") {
        tracing::warn!(%error, socket = %socket.display(), "the service manager can't be told that the agent is up");
    }
}

fn tell(socket: &[u8], what: &[u8]) -> io::Result<()> {
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
    fn the_manager_is_told_by_a_path_and_by_an_abstract_name() {
        let scratch = Scratch::new("notify");
        let path = scratch.0.join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        tell(path.as_os_str().as_bytes(), b"READY=1").unwrap();
        assert_eq!(received(&manager), b"READY=1");
        let name = path.as_os_str().as_bytes();
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        tell(&[b"@", name].concat(), b"READY=1").unwrap();
        assert_eq!(received(&manager), b"READY=1");
        assert!(tell(scratch.0.join("nobody").as_os_str().as_bytes(), b"READY=1").is_err());
    }
}
