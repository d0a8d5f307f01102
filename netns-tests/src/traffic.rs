//! Kernel TCP as programs use it: blocking sockets, servers, and bulk transfers whose bytes are all checked.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect as connect_socket, setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};

use crate::{Namespace, pattern::Pattern};

/// A `connect` that takes this long got no answer.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// A plain blocking `connect` from the calling thread's namespace, as programs call it.
///
/// # Errors
/// The errno of `connect`; see [`unanswered`].
pub fn connect(to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    connect_from(None, to, port)
}

/// [`connect`] after a `bind` to `source`.
///
/// # Errors
/// The errno of `bind` or `connect`.
pub fn connect_from(source: Option<SocketAddrV4>, to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(source) = source {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(source))?;
    }
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(CONNECT_LIMIT.as_secs() as i64))?;
    connect_socket(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, port)))?;
    let stream = TcpStream::from(fd);
    stream.set_write_timeout(Some(STALL))?;
    stream.set_read_timeout(Some(STALL))?;
    Ok(stream)
}

/// Whether this error of [`connect`] means that no answer came in [`CONNECT_LIMIT`]: EINPROGRESS (socket(7),
/// SO_SNDTIMEO).
#[must_use]
pub fn unanswered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::ETIMEDOUT | libc::EAGAIN))
}

/// A read or write that takes this long has failed.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// What a [`Server`] does with a connection.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Sends back everything until the other end has finished.
    Echo,
    /// Sends this text and closes.
    Greeting(String),
    /// Checks this many bytes, as [`exchange`] sends them, then sends as many.
    Exchange(u64),
}

/// A TCP server in a namespace. Ends when dropped.
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On all addresses of `namespace`.
    ///
    /// # Panics
    /// If the port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16, answer: Answer) -> Self {
        let listener = namespace.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).expect("cannot listen");
        let address = listener.local_addr().expect("a bound socket has an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let accepting = listener.try_clone().expect("cannot duplicate a descriptor");
        let thread = thread::spawn({
            let (accepted, stop) = (Arc::clone(&accepted), Arc::clone(&stop));
            move || {
                while let Ok((stream, _)) = accepting.accept() {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    accepted.fetch_add(1, Ordering::AcqRel);
                    let answer = answer.clone();
                    // The caller notices a connection that breaks.
                    thread::spawn(move || serve(stream, &answer));
                }
            }
        });
        Self { address, accepted, stop, listener, thread: Some(thread) }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Shutting down a listening socket wakes a thread in accept (tcp(7)); std offers it only for streams.
        let fd = self.listener.as_raw_fd();
        let _ = nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Echo => {
            let mut buffer = vec![0; 64 << 10];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.shutdown(Shutdown::Write),
                    n => stream.write_all(&buffer[..n])?,
                }
            }
        }
        Answer::Greeting(text) => stream.write_all(text.as_bytes()),
        Answer::Exchange(bytes) => {
            Pattern::new(0).check(&mut stream, *bytes)?;
            Pattern::new(0).send(&mut stream, *bytes)
        }
    }
}

/// Sends `text` and expects it back, on a connection to an [`Answer::Echo`].
///
/// # Errors
/// The error of the connection, or `InvalidData` if anything else comes back.
pub fn ping(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "another text came back")) }
}

/// The other side of [`Answer::Exchange`]: sends this many bytes, then receives as many, each checked.
///
/// # Errors
/// The error of the connection, or `InvalidData` if a byte is wrong.
pub fn exchange(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    Pattern::new(0).send(stream, bytes)?;
    Pattern::new(0).check(stream, bytes)
}
