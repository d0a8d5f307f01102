//! Transfers that go on slowly, so that what interrupts them is noticed.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Instance, wait};

/// A transfer that goes on until it is stopped: a few megabytes a second, of which every byte is checked.
pub struct Steady {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    /// The longest wait for the next bytes, in milliseconds.
    stall: Arc<AtomicU64>,
    threads: [JoinHandle<u64>; 2],
}

/// How long all interruptions of a transfer may take: those of a path, and those after which TCP asks again.
const LIMIT: Duration = Duration::from_secs(120);

const CHUNK: usize = 30_000;

fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

impl Steady {
    /// Over a connection from one instance to another, where it listens.
    ///
    /// # Panics
    /// If there is no connection.
    #[must_use]
    pub fn start(from: &Instance, to: &Instance, port: u16) -> Self {
        let listener = to.namespace.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).expect("a port");
        let sending = from.connect(to.service_address, port).expect("a connection");
        let (receiving, _) = listener.accept().expect("a connection");
        let stop = Arc::new(AtomicBool::new(false));
        let (arrived, stall) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = [
            thread::spawn({
                let stop = Arc::clone(&stop);
                move || send(sending, &stop)
            }),
            thread::spawn({
                let (arrived, stall) = (Arc::clone(&arrived), Arc::clone(&stall));
                move || receive(receiving, &arrived, &stall)
            }),
        ];
        Self { stop, arrived, stall, threads }
    }

    /// How many bytes have arrived so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// The longest wait for bytes since the last call, if some have come after it.
    #[must_use]
    pub fn take_stall(&self) -> Duration {
        Duration::from_millis(self.stall.swap(0, Ordering::AcqRel))
    }

    /// Waits until so many more bytes have arrived by each of these.
    #[track_caller]
    pub fn wait_more(all: &[Self], bytes: u64) {
        let before: Vec<u64> = all.iter().map(Self::arrived).collect();
        let more = || all.iter().zip(&before).all(|(transfer, before)| transfer.arrived() > before + bytes);
        wait::true_within(LIMIT, "more bytes of every transfer", more);
    }

    /// Ends it: all that was sent has arrived.
    ///
    /// # Panics
    /// If not, or a byte is wrong.
    #[track_caller]
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        let [sent, received] = self.threads.map(|thread| thread.join().expect("every byte"));
        assert_eq!(sent, received);
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let mut at = 0;
    while !stop.load(Ordering::Acquire) {
        let chunk: Vec<u8> = (at..at + CHUNK as u64).map(byte).collect();
        stream.write_all(&chunk).expect("the connection stands");
        at += CHUNK as u64;
        thread::sleep(Duration::from_millis(10));
    }
    at
}

fn receive(mut stream: TcpStream, arrived: &AtomicU64, stall: &AtomicU64) -> u64 {
    let (mut at, mut buffer, mut since) = (0, vec![0; CHUNK], Instant::now());
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("after {at} bytes: {error}"),
        };
        if length == 0 {
            return at;
        }
        for found in &buffer[..length] {
            assert_eq!(*found, byte(at), "byte {at}");
            at += 1;
        }
        stall.fetch_max(since.elapsed().as_millis() as u64, Ordering::AcqRel);
        since = Instant::now();
        arrived.store(at, Ordering::Release);
    }
}
