//! The machine's journal: for what a program has to say whose standard error nobody keeps.

use std::os::unix::net::UnixDatagram;

/// Where systemd's journal listens (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where any other listens (RFC 3164 without the time and the machine, as syslog(3) has it).
const SYSLOG: &str = "/dev/log";
/// Of syslog(3): `LOG_WARNING`.
const WARNING: u8 = 4;
/// `LOG_DAEMON`.
const DAEMON: u8 = 3 << 3;

/// Writes a warning there, under this program's name. On a machine without a journal there is nowhere to write it.
pub(crate) fn warn(text: &str) {
    // A line is a field of its own there.
    let text = text.replace(|c: char| c.is_control(), " ");
    let Ok(socket) = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) else {
        return;
    };
    let entry = format!("MESSAGE={text}\nPRIORITY={WARNING}\nSYSLOG_IDENTIFIER=mesh-node\n");
    if socket.send_to(entry.as_bytes(), JOURNAL).is_err() {
        // A journal that is full or away must not hold up a container.
        let _ = socket.send_to(format!("<{}>mesh-node: {text}", DAEMON | WARNING).as_bytes(), SYSLOG);
    }
}
