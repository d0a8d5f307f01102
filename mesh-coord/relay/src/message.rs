//! STUN messages as they come.

use stun_types::message::Message;

/// A message that is as long as it says, and not longer.
pub(crate) fn whole(message: &[u8]) -> Option<Message<'_>> {
    let length = message.get(2..4).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    if message.len() != 20 + length || length % 4 != 0 {
        return None;
    }
    Message::from_bytes(message).ok()
}
