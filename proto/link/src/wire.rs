//! A [`Carrier`] as the thread uses it that carries packets: it never waits, and never holds more than one message back.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
};

use rustls::ClientConnection;

use crate::Carrier;

/// The longest message, in bytes: a batch of the data plane.
const MAX_MESSAGE: usize = 64 << 10;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, whole.
    Taken,
    /// Nothing of it is: earlier ones still wait in the connection, and it is longer than what may wait with them.
    Full,
}

/// A connection to a relay that doesn't block.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// The rest of a message that the connection has taken in part; without TLS.
    rest: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
}

impl Wire {
    /// Uses a connection.
    #[must_use]
    pub fn new(carrier: Carrier) -> Self {
        let Carrier { socket, mut tls, .. } = carrier;
        if let Some(tls) = &mut tls {
            // One message is written at a time, and it fits with what TLS adds.
            tls.set_buffer_limit(Some(2 * MAX_MESSAGE));
        }
        Self { socket, tls, rest: Vec::new(), sent: 0 }
    }

    /// Reads bytes of the relay's; `None`: there are none now.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let over = || Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the relay has closed the connection"));
        let Some(tls) = &mut self.tls else {
            return match now(self.socket.read(buffer))? {
                Some(0) => over(),
                read => Ok(read),
            };
        };
        loop {
            match now(tls.reader().read(buffer))? {
                Some(0) => return over(),
                None => {}
                read => return Ok(read),
            }
            match now(tls.read_tls(&mut self.socket))? {
                None => return Ok(None),
                Some(0) => return over(),
                Some(_) => tls.process_new_packets().map_err(io::Error::other)?,
            };
        }
    }

    /// Sends a message of at most 64 KiB, whole or not at all.
    ///
    /// # Errors
    /// If the connection is over, or the message is too long.
    pub fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        if message.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.flush()?;
        if self.wants_write() {
            return Ok(Sent::Full);
        }
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(message)?;
                self.flush()?;
            }
            None => match now(self.socket.write(message))? {
                None => return Ok(Sent::Full),
                Some(taken) => {
                    self.sent = 0;
                    self.rest.clear();
                    self.rest.extend_from_slice(message.get(taken..).unwrap_or_default());
                }
            },
        }
        Ok(Sent::Taken)
    }

    /// Sends what is held back, as far as that goes now.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && now(tls.write_tls(&mut self.socket))?.is_some() {}
            return Ok(());
        }
        while let Some(rest) = self.rest.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match now(self.socket.write(rest))? {
                Some(taken) => self.sent += taken,
                None => break,
            }
        }
        Ok(())
    }

    /// Whether something is held back until the connection takes more.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            Some(tls) => tls.wants_write(),
            None => self.sent < self.rest.len(),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The result, `None` if there is none yet.
fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_proto::relay::Place;
    use rcgen::KeyPair;
    use rustls::ServerConfig;
    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{Proxies, Via, carrier, lab};

    /// How much each side sends in these tests.
    const ALL: usize = 4 << 20;

    /// What byte is at this place of a stream.
    fn pattern(at: usize) -> u8 {
        (at % 251) as u8
    }

    /// Reads `ALL` bytes that have to follow the pattern, while it sends as many itself.
    async fn exchange(stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (mut reader, mut writer) = split(stream);
        let sending = tokio::spawn(async move {
            let bytes: Vec<u8> = (0..ALL).map(pattern).collect();
            writer.write_all(&bytes).await.unwrap();
            writer.flush().await.unwrap();
            writer
        });
        let mut bytes = vec![0; ALL];
        reader.read_exact(&mut bytes).await.unwrap();
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        drop(sending.await.unwrap());
    }

    /// Sends messages and reads until both directions are through, as the data plane's thread does, with poll(2) for epoll.
    fn drive(mut wire: Wire) -> usize {
        let (mut given, mut got, mut full, mut buffer) = (0, 0, 0, vec![0; 32 << 10]);
        while given < ALL || got < ALL || wire.wants_write() {
            let length = (ALL - given).min(40_000);
            if length > 0 {
                let message: Vec<u8> = (given..given + length).map(pattern).collect();
                match wire.send(&message).unwrap() {
                    Sent::Taken => given += length,
                    Sent::Full => full += 1,
                }
            }
            wire.flush().unwrap();
            while let Some(n) = wire.read(&mut buffer).unwrap_or_else(|error| {
                assert!(got == ALL, "{error} after {got} bytes");
                None
            }) {
                assert!(buffer[..n].iter().enumerate().all(|(at, byte)| *byte == pattern(got + at)));
                got += n;
            }
            std::thread::yield_now();
        }
        full
    }

    /// A listener, where it is, and what accepts with TLS.
    async fn listening(config: &Arc<ServerConfig>, tls: bool) -> (TcpListener, Place, Option<TlsAcceptor>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string().parse().unwrap();
        (listener, place, tls.then(|| TlsAcceptor::from(Arc::clone(config))))
    }

    #[tokio::test]
    async fn messages_pass_whole_in_both_directions_without_and_with_tls() {
        let (config, fingerprint) = lab::tls(&["x"], &KeyPair::generate().unwrap());
        for fingerprint in [None, Some(fingerprint)] {
            let (listener, place, acceptor) = listening(&config, fingerprint.is_some()).await;
            let server = tokio::spawn(async move {
                let (tcp, _) = listener.accept().await.unwrap();
                match acceptor {
                    Some(acceptor) => exchange(acceptor.accept(tcp).await.unwrap()).await,
                    None => exchange(tcp).await,
                }
            });
            let via = fingerprint.map_or(Via::Tcp, Via::Tls);
            let wire = Wire::new(carrier(&[place], via, &Proxies::none()).await.unwrap());
            tokio::task::spawn_blocking(move || drive(wire)).await.unwrap();
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_takes_nothing_more_is_full_and_holds_one_message() {
        let (config, fingerprint) = lab::tls(&["x"], &KeyPair::generate().unwrap());
        for fingerprint in [None, Some(fingerprint)] {
            let (listener, place, acceptor) = listening(&config, fingerprint.is_some()).await;
            // It accepts, and reads nothing.
            let server = tokio::spawn(async move {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut held = (None, None);
                match acceptor {
                    Some(acceptor) => held.0 = Some(acceptor.accept(tcp).await.unwrap()),
                    None => held.1 = Some(tcp),
                }
                held
            });
            let via = fingerprint.map_or(Via::Tcp, Via::Tls);
            let mut wire = Wire::new(carrier(&[place], via, &Proxies::none()).await.unwrap());
            let held = server.await.unwrap();
            let message = vec![7; MAX_MESSAGE];
            let mut taken = 0;
            while wire.send(&message).unwrap() == Sent::Taken {
                taken += 1;
                assert!(taken < 1000, "it takes everything");
            }
            assert_eq!(wire.send(&message[..1]).unwrap(), Sent::Full, "nothing goes past what waits");
            assert!(wire.wants_write());
            assert!(wire.send(&[0; MAX_MESSAGE + 1]).is_err());
            assert_eq!(wire.read(&mut [0; 16]).unwrap(), None);
            drop(held);
            let over = std::iter::repeat_with(|| wire.read(&mut [0; 16])).find(|read| !matches!(read, Ok(None)));
            assert!(over.is_some_and(|read| read.is_err()), "the end is noticed");
        }
    }
}
