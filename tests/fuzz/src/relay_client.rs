//! What comes from a relay's address: answers of a hostile relay, and datagrams of anyone who claims to be it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use arbitrary::{Result, Unstructured};
use mesh_relay_client::{Allocation, HEADER, Inflow, Login, Transport, Wrapped};
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, XorMappedAddress},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWriteVec, TransactionId,
    },
    prelude::{MessageWrite, MessageWriteExt},
};
use turn_types::attribute::{Lifetime, XorRelayedAddress};
use zeroize::Zeroizing;

/// The most messages that one event may cause: all channels that are asked for at once, and a few.
const MESSAGES: usize = 40;

/// The life of an allocation.
struct Life<'a> {
    u: Unstructured<'a>,
    client: Allocation,
    inflow: Inflow,
    now: Instant,
    /// The requests so far, latest last.
    requests: Vec<Vec<u8>>,
    /// Whether an answer had the right signature.
    signed: bool,
}

/// Whatever is answered, what is found in it lies inside of it; the client asks for little, is never busy without end, and
/// has an address only by an answer with the relay's signature.
pub fn run(data: &[u8]) {
    let (mut u, now) = (Unstructured::new(data), Instant::now());
    let transport = if u.arbitrary().unwrap_or_default() { Transport::Datagram } else { Transport::Stream };
    let login = Login::new("name", Zeroizing::new("password".to_owned()));
    let earlier = Login::new("earlier", Zeroizing::new("password".to_owned()));
    let client = Allocation::new(transport, login, Some(earlier), 1, now);
    let mut life = Life { u, client, inflow: Inflow::default(), now, requests: vec![], signed: false };
    life.settle();
    while !life.u.is_empty() && life.step().is_ok() {
        life.settle();
        assert!(life.client.relayed().is_none() || life.signed, "an address by no relay's word");
    }
}

impl Life<'_> {
    fn step(&mut self) -> Result<()> {
        match self.u.int_in_range(0..=6)? {
            0 | 1 => {
                let answer = self.answer()?;
                self.take(&answer);
            }
            2 => {
                let mut bytes = self.bytes(200)?;
                if let (Some(request), true) = (self.requests.last(), bytes.len() >= 20) {
                    bytes[4..20].copy_from_slice(&request[4..20]);
                }
                self.take(&bytes);
            }
            3 => {
                let mut bytes = self.bytes(100)?;
                if let Some(first) = bytes.first_mut() {
                    *first = 0x40;
                }
                self.take(&bytes);
            }
            4 => self.send()?,
            5 => self.now += Duration::from_millis(self.u.int_in_range(0..=700_000)?),
            _ => {
                if let Some(next) = self.client.next_timeout() {
                    self.now = self.now.max(next);
                }
            }
        }
        Ok(())
    }

    fn bytes(&mut self, most: usize) -> Result<Vec<u8>> {
        let length = self.u.int_in_range(0..=most)?;
        Ok(self.u.bytes(length.min(self.u.len()))?.to_vec())
    }

    /// An answer to one of the latest requests.
    fn answer(&mut self) -> Result<Vec<u8>> {
        let back = self.u.int_in_range(1..=4)?;
        let Some(request) = self.requests.len().checked_sub(back).map(|at| self.requests[at].clone()) else {
            return Ok(vec![]);
        };
        let request = Message::from_bytes(&request).expect("the client's requests are messages");
        let id: TransactionId = request.transaction_id();
        let class = if self.u.arbitrary()? { MessageClass::Success } else { MessageClass::Error };
        let kind = MessageType::from_class_method(class, request.method());
        let mut answer = Message::builder(kind, id, MessageWriteVec::new());
        let address = SocketAddr::from((self.u.arbitrary::<[u8; 4]>()?, self.u.arbitrary()?));
        if class == MessageClass::Error {
            let code = *self.u.choose(&[401, 438, 437, 441, 440, 403, 486, 508, 300, 500])?;
            let _ = answer.add_attribute(&ErrorCode::builder(code).build().expect("a code"));
        } else {
            let _ = answer.add_attribute(&XorRelayedAddress::new(address, id));
            let _ = answer.add_attribute(&XorMappedAddress::new(address, id));
            let _ = answer.add_attribute(&Lifetime::new(self.u.arbitrary()?));
        }
        if self.u.arbitrary()? {
            let nonce = self.u.choose(&["one", "two", "three"])?;
            let _ = answer.add_attribute(&Realm::new("mesh").expect("a realm"));
            let _ = answer.add_attribute(&Nonce::new(nonce).expect("a nonce"));
        }
        if self.u.arbitrary()? {
            let user = *self.u.choose(&["name", "earlier"])?;
            let key = LongTermKeyCredentials::new(user.into(), "password".into(), "mesh".into());
            let key = key.make_key(IntegrityAlgorithm::Sha1);
            self.signed |= answer.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).is_ok();
        }
        Ok(answer.finish())
    }

    /// Something comes from the relay, as a batch and as a stream.
    fn take(&mut self, bytes: &[u8]) {
        let (mut at, mut end) = (0, 0);
        let stride = bytes.len().div_ceil(1 + bytes.first().map_or(0, |first| usize::from(first % 3)));
        while let Some(run) = self.client.unwrap(bytes, stride, &mut at, self.now) {
            assert!(run.range.start >= end && run.range.end <= bytes.len() && !run.range.is_empty());
            assert!(bytes[run.range.clone()].chunks(run.stride).all(|datagram| datagram.len() > run.skip));
            end = run.range.end;
        }
        assert_eq!(at, bytes.len());
        self.inflow.push(bytes);
        loop {
            match self.inflow.next(&mut self.client, self.now) {
                Ok(Some((run, bytes))) => {
                    assert!(bytes[run.range].chunks(run.stride).all(|datagram| datagram.len() > run.skip));
                }
                Ok(None) => break,
                // The connection ends.
                Err(_) => break self.inflow = Inflow::default(),
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        let stride = HEADER + 4 * self.u.int_in_range(0..=40)?;
        let mut batch = vec![0; stride * self.u.int_in_range(1..=8)?];
        let peer = SocketAddr::from((self.u.arbitrary::<[u8; 4]>()?, 1));
        let peer = if self.u.arbitrary()? { self.client.relayed().unwrap_or(peer) } else { peer };
        if self.client.wrap(peer, &mut batch, stride, self.now) == Wrapped::Batch {
            for datagram in batch.chunks(stride) {
                let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
                assert_eq!((datagram[0] & 0xf0, length), (0x40, stride - HEADER));
            }
        }
        Ok(())
    }

    /// Does what is due, and collects what is sent.
    fn settle(&mut self) {
        let mut sent = 0;
        for _ in 0..MESSAGES {
            let due = self.client.next_timeout().is_some_and(|at| at <= self.now);
            if due {
                self.client.handle_timeout(self.now);
            }
            while let Some(message) = self.client.poll_transmit() {
                assert!(message.len().is_multiple_of(4) && message.len() < 1000);
                sent += 1;
                self.requests.push(message);
            }
            while self.client.poll_event().is_some() {}
            if !due {
                assert!(sent <= MESSAGES, "{sent} messages at once");
                return;
            }
        }
        panic!("a deadline that is past stays");
    }
}
