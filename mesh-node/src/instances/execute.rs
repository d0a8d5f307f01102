//! Does what the lifecycle wants done.

use mesh_lifecycle::{AskError, CallId, Effect, Error, OpId, Outcome, Reply};
use mesh_proto::message::{Ask, Refusal};
use tokio::task::spawn_blocking;

use super::{log::log, shell::Shell};
use crate::{control, hint::with_nearest};

impl Shell {
    pub(super) fn execute(&mut self, effect: Effect) {
        let dataplane = &self.parts.dataplane;
        match effect {
            Effect::Reply(call, reply) => self.reply(call, reply),
            Effect::Close(call) => self.close(call),
            Effect::Save(save) => self.saving.wants(save),
            Effect::Log(notice) => log(notice),
            Effect::Ask(op, ask) => self.ask(op, ask),
            Effect::HurryStream => self.parts.control.hurry(),
            Effect::Departed(instance) => dataplane.ended(instance),
            Effect::Unwatch(watch) => self.watches.end(watch),
            Effect::StopServing(port) => dataplane.detach(mesh_engine::Port(port.0)),
            Effect::Serve(op, namespace, instance) => match self.queues.remove(&namespace) {
                Some(queue) => {
                    let port = dataplane.attach(queue, instance);
                    self.done(op, Outcome::Serving(mesh_lifecycle::Port(port.0)));
                }
                None => self.fails(&format_args!("the TUN of {instance} is gone before it is served")),
            },
            Effect::Kernel(op, step) => self.step(op, step),
            Effect::KeepHosts(op, source, service) => self.keep_hosts(op, source, &service),
            Effect::PutNames(op, handle, names) => self.put_names(op, handle, names),
            Effect::RenewNames(handle, instance, names) => self.renew_names(handle, instance, names),
            Effect::ClearNames(op, handle) => self.clear_names(op, handle),
            Effect::CloseHosts(handle) => self.hosts.close(handle),
            Effect::OpenHosts(op, place, namespace) => self.open_hosts(op, place, namespace),
            Effect::CloseOpened(opened) => self.hosts.close_opened(opened),
            Effect::CompareHosts(op, place, handle) => self.compare_hosts(op, place, handle),
        }
    }

    /// Answers a caller, if it still waits.
    pub(super) fn reply(&mut self, call: CallId, reply: Result<Reply, Error>) {
        if let Some(caller) = self.calls.remove(&call) {
            let _ = caller.send(reply);
        }
    }

    fn close(&mut self, call: CallId) {
        if let Some(file) = self.opened.remove(&call).and_then(|opened| opened.hosts) {
            file.let_go();
        }
        if let Some(prepared) = self.prepared.remove(&call) {
            spawn_blocking(move || drop(prepared));
        }
    }

    fn ask(&mut self, op: OpId, ask: Ask) {
        let control = self.parts.control.clone();
        let service = match &ask {
            Ask::Attach { service, .. } => Some(service.clone()),
            _ => None,
        };
        self.spawn(async move {
            let answer = control.ask(ask).await.map_err(|error| match error {
                control::AskError::Away(_) => AskError::Away(error.into()),
                control::AskError::Refused(_) | control::AskError::Mismatch => {
                    let refusal = Refusal::from(error);
                    AskError::Refused(match service {
                        Some(service) => with_nearest(refusal, &[&service], control.view().as_deref()),
                        None => refusal,
                    })
                }
            });
            move |shell: &mut Self| shell.done(op, Outcome::Answered(answer))
        });
    }
}
