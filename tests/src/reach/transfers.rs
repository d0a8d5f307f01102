//! What programs do: they open connections, and write.

use std::time::Duration;

use mesh_engine::Port;

use super::world::{MTU, World};
use crate::{
    Failure,
    pair::address,
    stream::{Read, Stream},
};

impl World {
    /// A program of a runner calls the other one. Returns the connection.
    pub(super) fn call(&mut self, from: usize) -> Result<usize, Failure> {
        let number = self.streams.len();
        let ends = [(address(from), 40_000 + number as u16), (address(1 - from), 80)];
        let mut stream = Stream::new(from, ends, MTU, self.by_relay());
        let syn = stream.start(self.now);
        self.streams.push(stream);
        self.note(&format!("{from} calls"));
        self.read(from, syn)?;
        Ok(number)
    }

    /// Opens a connection in each direction within some time.
    pub(super) fn call_both(&mut self, limit: Duration) -> Result<(), Failure> {
        for from in [0, 1] {
            let number = self.call(from)?;
            self.until(limit, "a connection", |world| world.streams[number].open)?;
        }
        Ok(())
    }

    /// Programs write so much so often from now on.
    pub(super) fn writing(&mut self, every: Duration, bytes: u32) {
        self.writes = Some((every, bytes));
        self.next_write = self.now;
    }

    /// Programs write nothing from now on.
    pub(super) const fn silence(&mut self) {
        self.writes = None;
    }

    /// Every transfer completes within some time.
    pub(super) fn complete(&mut self, limit: Duration) -> Result<(), Failure> {
        self.silence();
        self.until(limit, "all that was written", |world| world.streams.iter().all(Stream::is_complete))?;
        Ok(())
    }

    pub(super) fn write(&mut self) -> Result<(), Failure> {
        let Some((every, bytes)) = self.writes else { return Ok(()) };
        self.next_write = self.now + every;
        for stream in 0..self.streams.len() {
            self.streams[stream].write(bytes);
            self.send_more(stream)?;
        }
        Ok(())
    }

    pub(super) fn retransmit(&mut self) -> Result<(), Failure> {
        let now = self.now;
        let due = self.streams.iter().position(|stream| stream.due().is_some_and(|at| at <= now));
        let Some(stream) = due else { return Ok(()) };
        let (from, packet) = (self.streams[stream].from, self.streams[stream].time_out(now));
        self.read(from, packet)
    }

    /// A packet was delivered to a runner's instance.
    pub(super) fn delivered(&mut self, runner: usize, packet: &[u8]) -> Result<(), Failure> {
        let Some(read) = Read::parse(packet) else { return Ok(()) };
        let Some(stream) = self.streams.iter().position(|stream| stream.is_for(runner, &read)) else { return Ok(()) };
        if read.is_reset() {
            return Err(self.failure(&format!("connection {stream} is reset")));
        }
        let answer = self.streams[stream].take(runner, &read, self.now);
        if let Some(answer) = answer.map_err(|what| self.failure(&what))? {
            self.read(runner, answer)?;
        }
        if runner == self.streams[stream].from { self.send_more(stream) } else { Ok(()) }
    }

    fn send_more(&mut self, stream: usize) -> Result<(), Failure> {
        let (from, packets) = (self.streams[stream].from, self.streams[stream].send(self.now));
        packets.into_iter().try_for_each(|packet| self.read(from, packet))
    }

    /// A runner reads a packet of its instance.
    fn read(&mut self, runner: usize, mut packet: Vec<u8>) -> Result<(), Failure> {
        let now = self.instant();
        self.engine(runner, |engine, said| {
            engine.handle_tun(Port(1), &mut packet, now, said);
        })
    }
}
