//! Warnings in the machine's journal, from programs whose standard error is discarded.

use std::os::unix::net::UnixDatagram;

/// systemd's journal (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Any other syslog daemon (RFC 3164 without time and machine, as syslog(3) sends it).
const SYSLOG: &str = "/dev/log";
/// `LOG_WARNING` of syslog(3).
const WARNING: u8 = 4;
/// `LOG_DAEMON` of syslog(3).
const DAEMON: u8 = 3 << 3;

/// Writes a warning under this program's name. Without a journal on the machine the warning is lost.
pub(crate) fn warn(text: &str) {
    // The journal ends a field at a line break.
    let text = text.replace(|c: char| c.is_control(), " ");
    let Ok(socket) = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket)) else {
        return;
    };
    let entry = format!("MESSAGE={text}\nPRIORITY={WARNING}\nSYSLOG_IDENTIFIER=mesh-node\n");
    if socket.send_to(entry.as_bytes(), JOURNAL).is_err() {
        // A journal that is full or absent must not delay a container.
        let _ = socket.send_to(format!("<{}>mesh-node: {text}", DAEMON | WARNING).as_bytes(), SYSLOG);
    }
}
