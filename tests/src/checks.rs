//! The two checks.

use std::time::Duration;

use mesh_engine::Port;
use mesh_proto::{
    RunnerId,
    rules::{Segment, verdict},
};

use crate::{
    packet::{self, Read, Tcp},
    world::{Failure, PORTS, World},
};

impl World {
    /// *Safety*: what is delivered, the reference verdict lets through, on the view that is in force where it arrives.
    pub(crate) fn check_safety(&mut self, id: RunnerId, port: Port, read: Read) -> Result<(), Failure> {
        let Read::Tcp(segment) = read else { return Ok(()) };
        self.note(format!("{id} delivers {segment:?}"));
        if segment.data == Some(Tcp::FORGED) {
            return Err(self.failure(format!("a forged packet arrived: {segment:?}")));
        }
        if segment.flags & packet::RST != 0 {
            return Ok(()); // refusals are the runners' own
        }
        let Some(runner) = self.runners.get(&id) else { return Ok(()) };
        let (Some(view), Some(host)) = (&runner.agent.view, runner.hosts.get(&port)) else {
            return Err(self.failure(format!("delivered without a view or a host: {segment:?}")));
        };
        let owner = |address| {
            let of_instance = view.instances().find(|i| i.address == address).map(|i| i.service);
            of_instance.or_else(|| view.services().find(|s| s.address == address).map(|s| s.id))
        };
        let (source, destination) = (owner(segment.source.0), owner(segment.destination.0));
        let meant =
            Segment { source_port: segment.source.1, destination_port: segment.destination.1, opens: segment.opens() };
        let (Some(source), Some(destination)) = (source, destination) else {
            return Err(self.failure(format!("between addresses that the view doesn't hold: {segment:?}")));
        };
        if let Err(denial) = verdict(view, source, destination, meant) {
            return Err(self.failure(format!("{denial}, and yet it was delivered: {segment:?}")));
        }
        if view.instance(host.instance).is_none_or(|i| i.service != destination) {
            return Err(self.failure(format!("delivered to {}, whose it isn't: {segment:?}", host.instance)));
        }
        Ok(())
    }

    /// *Liveness*: on a calm network every instance dials every service, on both ports.
    pub(crate) fn settle_and_probe(&mut self) -> Result<(), Failure> {
        self.note("calm".to_owned());
        self.network.rough = false;
        self.network.cut.clear();
        // Long enough for a runner that was cut off or has moved to be found again, and for standing attempts to end.
        self.run_until(self.now + Duration::from_secs(60))?;
        let rejected = self.rejected();
        let addresses = self.service_addresses();
        let hosts: Vec<_> = self.hosts().map(|(id, h)| (id, h.port, h.service, h.ended)).collect();
        let mut probes = Vec::new();
        for (runner, port, caller, ended) in &hosts {
            for (callee, address) in &addresses {
                for dialled in PORTS {
                    let attempt = self.dial(*runner, *port, (*address, dialled))?;
                    probes.push((*runner, *port, *caller, *ended, *callee, dialled, attempt));
                }
            }
        }
        self.run_until(self.now + Duration::from_secs(20))?;
        for (runner, port, caller, ended, callee, dialled, attempt) in probes {
            if caller == callee {
                continue; // in a kernel this never leaves the namespace
            }
            let Some(heard) = self.host(runner, port).and_then(|host| host.attempts.get(&attempt).cloned()) else {
                continue;
            };
            let live = hosts.iter().any(|(_, _, service, ended)| *service == callee && !ended);
            let expected = match self.reference.may_open(caller, callee, dialled) {
                // It has no address any more: its packets are forged ones.
                _ if ended => (false, vec![]),
                true if live => (true, vec![]),
                true => (false, vec![Some(1)]),
                false => (false, vec![Some(13)]),
            };
            // On a calm network nothing is repeated: what is rejected as a replay is an artefact of the clocks (see
            // `World::forget`), of a tunnel that one end made anew while the other still has the one before.
            let delayed = expected.0 && heard.refusals.is_empty() && self.rejected() > rejected;
            if !delayed && (heard.connected, &heard.refusals) != (expected.0, &expected.1) {
                let what =
                    format!("{caller:?} on {runner} dialled {callee:?}:{dialled}: {heard:?} instead of {expected:?}");
                return Err(self.failure(what));
            }
        }
        self.network.rough = true;
        Ok(())
    }
}
