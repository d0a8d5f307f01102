//! Passes descriptors with a message on a unix socket (`SCM_RIGHTS`, unix(7)).
#![allow(unsafe_code, reason = "a received descriptor is only a number until it is owned")]

use std::{
    io::{self, IoSlice, Write},
    mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

/// The most descriptors in one message. No request has more than three.
const MOST: usize = 4;

/// Sends `bytes`, and `fds` with the first of them.
///
/// # Errors
/// The error of sendmsg(2); `InvalidInput` for descriptors without any byte.
pub(crate) fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.is_empty() {
        return (&*stream).write_all(bytes);
    }
    if bytes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors can only be sent with at least one byte"));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let sent = loop {
        let rights = [ControlMessage::ScmRights(&raw)];
        match sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    (&*stream).write_all(bytes.get(sent..).unwrap_or_default())
}

/// Receives at most `buffer.len()` bytes and the descriptors with them, close-on-exec. No bytes: the other end has
/// finished.
///
/// # Errors
/// The error of recvmsg(2); `InvalidData` if there were more descriptors than any request has (all of them are closed).
pub(crate) fn recv_with_fds(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Room for the header and the descriptors, aligned for both.
    let mut control = [0_u64; 2 + MOST];
    // SAFETY: a `msghdr` of zeros is a valid one.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only calculates.
    message.msg_controllen = unsafe { libc::CMSG_SPACE((MOST * size_of::<RawFd>()) as libc::c_uint) } as _;
    let count = loop {
        // SAFETY: the message points to buffers that outlive the call, with lengths that don't exceed theirs.
        match unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) } {
            count if count >= 0 => break count.cast_unsigned(),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    // Before any check: descriptors without an owner would stay open for ever.
    let fds = own(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more descriptors beside the message than any request has",
        ));
    }
    Ok((count, fds))
}

/// The descriptors of a received message. (nix returns none if there were more than there was room for.)
#[allow(clippy::unnecessary_cast, reason = "with musl, cmsg_len is a socklen_t")]
fn own(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`; the macros stay within, and the data of
    // SCM_RIGHTS are new descriptors that only this code knows.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let length = (control.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let owned =
                    (0..length / size_of::<RawFd>()).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                fds.extend(owned);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_message_and_is_not_inherited() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file: File = nix::sys::memfd::memfd_create("mesh", nix::sys::memfd::MFdFlags::empty()).unwrap().into();
        file.write_all(b"hello").unwrap();
        file.rewind().unwrap();
        send_with_fds(&ours, b"{}\n", &[file.as_fd()]).unwrap();

        let mut buffer = [0; 16];
        let (n, mut fds) = recv_with_fds(&theirs, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"{}\n"[..], 1));
        let fd = fds.remove(0);
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");

        drop(ours);
        assert_eq!(recv_with_fds(&theirs, &mut buffer).unwrap().0, 0, "the end is the end");
    }

    #[test]
    fn too_many_descriptors_are_refused_and_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        send_with_fds(&ours, b"x", &[writer.as_fd(); MOST + 1]).unwrap();
        let error = recv_with_fds(&theirs, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(writer);
        assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0, "a copy of the writing end is still open somewhere");
    }

    #[test]
    fn plain_messages_need_no_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send_with_fds(&ours, b"plain", &[]).unwrap();
        let mut buffer = [0; 16];
        let (n, fds) = recv_with_fds(&theirs, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"plain"[..], 0));
        assert_eq!(send_with_fds(&ours, b"", &[ours.as_fd()]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
