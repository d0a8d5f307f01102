//! The steps at hosts files.

use std::time::Duration;

use mesh_lifecycle::{HostLines, HostsPlace, HostsSource, NamespaceId, OpId, Opened, Outcome};
use mesh_proto::{InstanceId, ServicePath, message::Refusal};

use super::{reopen::process_in, shell::Shell};
use crate::hosts::{Reach as _, Unkept};

/// How long an instance's start waits until its names are in the file: a disk may have much to write.
const WRITTEN: Duration = Duration::from_secs(8);

impl Shell {
    pub(super) fn keep_hosts(&mut self, op: OpId, source: HostsSource, service: &ServicePath) {
        let file = match source {
            HostsSource::Call(call) => self.opened.get_mut(&call).and_then(|opened| opened.hosts.take()),
            HostsSource::Opened(opened) => self.hosts.opened.remove(&opened),
        };
        let Some(file) = file else {
            return self.fails(&format_args!("no hosts file of {service} is open at {source:?}"));
        };
        let (answer, taken) = self.hosts.keep(op, file, service);
        match (taken, source) {
            (None, _) => {}
            (Some(file), HostsSource::Opened(_)) => file.let_go(),
            // It may be tried again.
            (Some(file), HostsSource::Call(call)) => {
                if let Some(opened) = self.opened.get_mut(&call) {
                    opened.hosts = Some(file);
                }
            }
        }
        self.done(op, Outcome::Hosts(answer));
    }

    pub(super) fn put_names(&mut self, op: OpId, handle: OpId, names: HostLines) {
        let Some(kept) = self.hosts.kept.get(&handle) else {
            return self.fails(&format_args!("no hosts file is kept at {handle:?}"));
        };
        // Under way from here on, in turn with what follows.
        let put = kept.put_within(WRITTEN, names);
        self.spawn(async move {
            let result = put.await.map_err(|e| {
                let hint = "give another one with --hosts FILE, or attach by --netns PATH, without a hosts file";
                Refusal::new(format!("the names can't be written into the hosts file: {e}"), hint)
            });
            move |shell: &mut Self| shell.done(op, Outcome::Did(result))
        });
    }

    pub(super) fn renew_names(&mut self, handle: OpId, instance: InstanceId, names: HostLines) {
        let Some(kept) = self.hosts.kept.get(&handle).cloned() else {
            return self.fails(&format_args!("no hosts file of {instance} is kept at {handle:?}"));
        };
        let Some(put) = kept.renew(names) else { return };
        self.spawn(async move {
            if let Some(error) = kept.news(put.await) {
                tracing::warn!(%instance, %error, "its names are out of date");
            }
            |_: &mut Self| ()
        });
    }

    pub(super) fn clear_names(&mut self, op: OpId, handle: OpId) {
        let Some(kept) = self.hosts.kept.remove(&handle) else {
            return self.fails(&format_args!("no hosts file is kept at {handle:?}"));
        };
        let cleared = kept.clear();
        self.spawn(async move {
            let result = cleared.await.map_err(|e| Refusal::bare(e.to_string()));
            move |shell: &mut Self| shell.done(op, Outcome::Did(result))
        });
    }

    pub(super) fn open_hosts(&mut self, op: OpId, place: HostsPlace, namespace: NamespaceId) {
        let turns = self.searches.clone();
        self.spawn(async move {
            let opened = turns.run(move || match place.pid() {
                Some(pid) if process_in(pid, namespace).is_none() => None,
                _ => Some(place.open_again()),
            });
            let opened = opened.await.unwrap_or_else(|e| Some(Err(Unkept::Refused(Refusal::bare(e.to_string())))));
            move |shell: &mut Self| {
                let opened = match opened {
                    None => Opened::Gone,
                    Some(Ok(None)) => Opened::Leased,
                    Some(Err(why)) => Opened::Unkept(why.refusal()),
                    Some(Ok(Some(file))) => {
                        shell.hosts.opened.insert(op, file);
                        Opened::Open
                    }
                };
                shell.done(op, Outcome::Opened(opened));
            }
        });
    }

    pub(super) fn compare_hosts(&mut self, op: OpId, place: HostsPlace, handle: OpId) {
        let kept = self.hosts.kept.get(&handle).map(|kept| (kept.id(), kept.owner()));
        let turns = self.searches.clone();
        self.spawn(async move {
            let moved = turns.run(move || {
                let (file, owner) = kept?;
                place.leads_elsewhere(file).filter(|moved| !moved || place.is_heir_of(owner))
            });
            let moved = moved.await.ok().flatten();
            move |shell: &mut Self| shell.done(op, Outcome::Moved(moved))
        });
    }
}
