//! The costs of a path besides bulk: round trips of one byte, and connections.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mesh_netns_tests::Namespace;
use nix::sys::{
    socket::{AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, shutdown, socket, sockopt},
    time::{TimeVal, TimeValLike as _},
};
use serde_json::{Value, json};

const PORT: u16 = 7777;

/// Connections at once, where there is more than one, and a few threads more to take them.
pub(crate) const AT_ONCE: usize = 8;
const TAKERS: usize = AT_ONCE + 2;

/// What takes longer has failed: seconds.
const PATIENCE: i64 = 10;

/// Round trips that are made before any is counted.
const WARM: usize = 20;

/// Sends back every byte, until it is dropped.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Its connections have this congestion control.
    pub(crate) fn start(namespace: &Namespace, cc: &str) -> io::Result<Self> {
        // The socket belongs where it was made; the threads need not be there.
        let listener = namespace.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
        setsockopt(&listener, sockopt::TcpCongestion, &OsString::from(cc))?;
        let listener = Arc::new(listener);
        let threads = (0..TAKERS).map(|_| {
            let listener = Arc::clone(&listener);
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    // It ends as its client wants it to.
                    let _ = echo(stream);
                }
            })
        });
        Ok(Self { threads: threads.collect(), listener })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A thread in accept(2) gets EINVAL.
        let _ = shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Round trips of one byte on one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrips {
    pub(crate) count: usize,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl RoundTrips {
    pub(crate) fn json(&self) -> Value {
        json!({ "count": self.count, "p50_us": self.p50, "p99_us": self.p99 })
    }
}

/// From where, to where, and with which congestion control.
pub(crate) struct Path<'a> {
    pub(crate) from: &'a Namespace,
    pub(crate) to: Ipv4Addr,
    pub(crate) cc: &'a str,
}

impl Path<'_> {
    /// One after another, by blocking calls as a program makes them, `pace` apart at least, until it is `over`.
    pub(crate) fn round_trips(&self, pace: Duration, over: impl Fn() -> bool + Sync) -> io::Result<RoundTrips> {
        let mut times = self.from.enter(|| {
            let mut stream = self.connect()?;
            (0..WARM).try_for_each(|_| there_and_back(&mut stream))?;
            let mut times = vec![];
            while times.is_empty() || !over() {
                let asked = Instant::now();
                there_and_back(&mut stream)?;
                times.push(asked.elapsed());
                thread::sleep(pace.saturating_sub(asked.elapsed()));
            }
            Ok::<_, io::Error>(times)
        })?;
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
        Ok(RoundTrips { count: times.len(), p50: at(50), p99: at(99) })
    }

    /// Connections a second, each with a round trip of one byte, in several threads for this time.
    pub(crate) fn connections(&self, at_once: usize, time: Duration) -> io::Result<f64> {
        let (done, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let begun = Instant::now();
        let work = || {
            self.from.enter(|| {
                while begun.elapsed() < time && !failed.load(Ordering::Relaxed) {
                    let one = self.connect().and_then(|mut stream| {
                        there_and_back(&mut stream)?;
                        stream.shutdown(Shutdown::Both)
                    });
                    failed.fetch_or(one.is_err(), Ordering::Relaxed);
                    one?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, io::Error>(())
            })
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it doesn't panic"))
        })?;
        Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Whether a byte gets there and back.
    pub(crate) fn answers(&self) -> bool {
        self.from.enter(|| there_and_back(&mut self.connect()?)).is_ok()
    }

    /// From the calling thread's namespace.
    fn connect(&self) -> io::Result<TcpStream> {
        let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::TcpCongestion, &OsString::from(self.cc))?;
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        // That of connect(2) as well: socket(7).
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        nix::sys::socket::connect(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(self.to, PORT)))?;
        Ok(TcpStream::from(fd))
    }
}

fn there_and_back(stream: &mut TcpStream) -> io::Result<()> {
    let mut byte = [b'x'];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}
