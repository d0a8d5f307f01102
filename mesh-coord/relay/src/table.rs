//! The allocations, by their port, by who sends, and by pseudonym.

use std::collections::HashMap;

use mesh_proto::relay::Pseudonym;

use crate::{
    allocation::{Allocation, Owner},
    limits::FIRST_PORT,
    way::Client,
};

/// The allocations.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_port: HashMap<u16, Allocation>,
    by_client: HashMap<Client, u16>,
    by_name: HashMap<Pseudonym, u16>,
    channels: usize,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.by_port.len()
    }

    /// The channels of all allocations.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    pub(crate) fn of(&self, client: Client) -> Option<&Allocation> {
        self.by_port.get(self.by_client.get(&client)?)
    }

    pub(crate) fn at(&self, port: u16) -> Option<&Allocation> {
        self.by_port.get(&port)
    }

    pub(crate) fn holds(&self, name: Pseudonym) -> bool {
        self.by_name.contains_key(&name)
    }

    /// Changes an allocation, and keeps count of its channels.
    pub(crate) fn change<T>(&mut self, client: Client, with: impl FnOnce(&mut Allocation) -> T) -> Option<T> {
        let allocation = self.by_port.get_mut(self.by_client.get(&client)?)?;
        let before = allocation.channels.len();
        let result = with(allocation);
        self.channels = self.channels + allocation.channels.len() - before;
        Some(result)
    }

    /// The port for a pseudonym: the one that it has, or always had before, as far as that is free.
    pub(crate) fn port_for(&self, name: Pseudonym) -> u16 {
        if let Some(port) = self.by_name.get(&name) {
            return *port;
        }
        let mut port = Owner::of(name).port();
        while self.by_port.contains_key(&port) {
            port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        port
    }

    /// Takes in an allocation, at a port that is free.
    pub(crate) fn insert(&mut self, allocation: Allocation) {
        let port = allocation.relayed.port();
        self.by_client.insert(allocation.way.client(), port);
        self.by_name.insert(allocation.name, port);
        self.by_port.insert(port, allocation);
    }

    pub(crate) fn remove_client(&mut self, client: Client) -> Option<Allocation> {
        let port = *self.by_client.get(&client)?;
        self.remove(port)
    }

    pub(crate) fn remove_name(&mut self, name: Pseudonym) -> Option<Allocation> {
        let port = *self.by_name.get(&name)?;
        self.remove(port)
    }

    /// Removes the allocations that have ended.
    pub(crate) fn remove_ended(&mut self, seconds: u32) -> Vec<Allocation> {
        let ended = self.by_port.iter().filter(|(_, allocation)| allocation.until <= seconds);
        let ended: Vec<u16> = ended.map(|(port, _)| *port).collect();
        ended.into_iter().filter_map(|port| self.remove(port)).collect()
    }

    fn remove(&mut self, port: u16) -> Option<Allocation> {
        let allocation = self.by_port.remove(&port)?;
        self.by_client.remove(&allocation.way.client());
        self.by_name.remove(&allocation.name);
        self.channels -= allocation.channels.len();
        Some(allocation)
    }
}
