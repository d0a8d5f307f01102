//! What the rest of the agent can do with the instances and containers of this runner.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mesh_engine::Port;
use mesh_lifecycle::{CallId, ContainerId, Input, Lifecycle, NamespaceId, NamespacePlace, Remembered, Reply};
use mesh_proto::{
    InstanceId,
    message::{Held, Refusal},
};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use super::{
    answer,
    kept::Hosts,
    message::{Asked, Message},
    request::{Life, Resolv, Start, Wish},
    shell::{Parts, Shell},
};
use crate::{
    attach::{self, AttachError},
    hosts::Files,
    local::{self, VERSION},
    sys::process,
};

/// The instances of this runner.
#[derive(Debug, Clone)]
pub(crate) struct Instances {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    messages: mpsc::UnboundedSender<Message>,
    calls: AtomicU64,
    files: Files,
    /// Held by the one that tries a connection.
    probing: Mutex<()>,
}

/// A caller that waits. Dropped earlier, it waits no longer.
struct Waiting<'a> {
    instances: &'a Instances,
    call: CallId,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.instances.send(Message::HungUp(self.call));
        }
    }
}

impl Instances {
    /// Takes up the instances and containers that an earlier agent left.
    pub(crate) async fn start(parts: Parts, remembered: Remembered) -> Self {
        let (messages, receiver) = mpsc::unbounded_channel();
        let (files, moved) = Files::watched(Some(parts.guards.clone()), parts.state.clone());
        let hosts = Hosts::new(files.clone(), moved);
        tokio::spawn(Shell::new(parts, remembered, receiver, hosts).run());
        let instances =
            Self { inner: Arc::new(Inner { messages, calls: AtomicU64::new(0), files, probing: Mutex::default() }) };
        // Nothing refuses a start.
        let _ = instances.call(|call| Asked::Other(Input::Start(call))).await;
        instances.inner.files.take_out_left();
        instances
    }

    /// In which hosts files names stay that no instance keeps there, and why.
    pub(crate) fn hosts_warnings(&self) -> Vec<String> {
        self.inner.files.warnings()
    }

    /// What is told when a stream begins.
    pub(crate) async fn hello(&self) -> Vec<Held> {
        match self.look(Lifecycle::hello).await {
            Ok(held) => held,
            // The agent ends. A hello that names none would end all instances.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns if the task has failed. Nothing can be attached or detached from then on.
    pub(crate) async fn failed(&self) {
        self.inner.messages.closed().await;
    }

    /// The instances, by identifier, with the containers that hold each.
    pub(crate) async fn list(&self) -> Vec<local::Instance> {
        let shown = self.look(|lifecycle| {
            let shown = lifecycle.list().into_iter().map(|shown| {
                let containers = lifecycle.holding(shown.attachment.namespace);
                local::Instance { containers, ..answer::instance(shown) }
            });
            shown.collect()
        });
        shown.await.unwrap_or_default()
    }

    /// The containers that hold instances.
    pub(crate) async fn containers(&self) -> local::Containers {
        let containers = self.look(|lifecycle| lifecycle.containers()).await.unwrap_or_default();
        local::Containers { version: VERSION, containers }
    }

    /// A container runs without the mesh, and is tried again; `None`: not any more.
    pub(crate) fn waits(&self, id: &ContainerId, why: Option<Refusal>) {
        self.send(Message::Happened(Input::Waits(id.clone(), why)));
    }

    /// The containers that run without the mesh though they ask for it.
    pub(crate) async fn waiting(&self) -> Vec<local::Waiting> {
        let waiting = self.look(|lifecycle| lifecycle.waiting().clone()).await.unwrap_or_default();
        let told = |(container, Refusal { error, hint })| local::Waiting { container, error, hint };
        waiting.into_iter().map(told).collect()
    }

    /// Puts an instance into a namespace, and waits until the runners concerned know it, two seconds at most.
    ///
    /// # Errors
    /// If that can't be; then nothing has changed.
    pub(crate) async fn attach(&self, wish: Wish) -> Result<local::Attach, Refusal> {
        self.attach_with_resolver(wish, None).await
    }

    /// The instance first, then its resolver in the resolv.conf: without that it works all the same.
    async fn attach_with_resolver(
        &self,
        mut wish: Wish,
        container: Option<(ContainerId, Option<i32>)>,
    ) -> Result<local::Attach, Refusal> {
        let after = match std::mem::replace(&mut wish.resolv, Resolv::Untouched) {
            Resolv::Untouched => None,
            Resolv::File(place, file) => Some(wish.for_resolver(place, file, container.is_some())),
            Resolv::Unkept(why) => Some(Err(why)),
        };
        let mut answer = self.attach_for(wish, container.clone()).await?;
        let kept = match after {
            None => return Ok(answer),
            Some(Ok(after)) => self.attach_for(after, container).await.map(|second| answer.instance = second.instance),
            Some(Err(why)) => Err(why),
        };
        if let Err(why) = kept {
            let text = why.hint.iter().fold(why.error.clone(), |text, hint| format!("{text}; {hint}"));
            tracing::warn!(instance = %answer.instance.id, service = %answer.instance.service, "{text}");
            answer.instance.warnings.push(text);
        }
        Ok(answer)
    }

    /// Gives a container its instance: the one that is in its namespace, or a new one. The same once more is the same.
    ///
    /// # Errors
    /// If that can't be; then nothing has changed.
    pub(crate) async fn attach_container(&self, start: Start) -> Result<local::Attach, Refusal> {
        let Start { id, service, client, release, namespace, hosts, unkept, resolv, life } = start;
        let (pid, process, place) = match life {
            Life::Process(process) => {
                let pid = process::pid_of(&process)
                    .map_err(|e| Refusal::bare(format!("container {id} has no process that could be watched: {e}")))?;
                // Found again by its process or by number: it can outlive that, with another container in it.
                (Some(pid), Some(process), format!("/proc/{pid}/ns/net").into())
            }
            Life::Namespace(path) => (None, None, path),
        };
        let place = NamespacePlace::Path(place);
        let wish = Wish { service, client, release, namespace, place, hosts, unkept, resolv, process };
        self.attach_with_resolver(wish, Some((id, pid))).await
    }

    async fn attach_for(
        &self,
        wish: Wish,
        container: Option<(ContainerId, Option<i32>)>,
    ) -> Result<local::Attach, Refusal> {
        if wish.namespace.is_host() {
            return Err(Refusal::bare(AttachError::Host.to_string()));
        }
        let mark = attach::draw_mark().map_err(|e| Refusal::bare(format!("the system gives no randomness: {e}")))?;
        match self.call(|_| Asked::Attach(Box::new(wish), mark, container)).await? {
            Reply::Attached(shown, pending) => {
                Ok(local::Attach { version: VERSION, instance: answer::instance(shown), pending })
            }
            _ => Err(unfit()),
        }
    }

    /// Takes an instance out.
    ///
    /// # Errors
    /// If it isn't here.
    pub(crate) async fn detach(&self, instance: InstanceId) -> Result<local::Detach, Refusal> {
        detached(self.ask(|call| Input::Detach(call, instance)).await?)
    }

    /// Takes out the instance of a namespace.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn detach_from(&self, namespace: NamespaceId) -> Result<local::Detach, Refusal> {
        detached(self.ask(|call| Input::DetachNamespace(call, namespace)).await?)
    }

    /// A container has ended. Returns the instance that ended with it, if one did; one that is not known is none.
    ///
    /// # Errors
    /// If the agent ends.
    pub(crate) async fn detach_container(&self, id: ContainerId) -> Result<local::DetachContainer, Refusal> {
        match self.ask(|call| Input::DetachContainer(call, id)).await? {
            Reply::ContainerDetached(shown) => {
                Ok(local::DetachContainer { version: VERSION, instance: shown.map(answer::instance) })
            }
            _ => Err(unfit()),
        }
    }

    /// Takes all instances out.
    ///
    /// # Errors
    /// If the agent ends.
    pub(crate) async fn detach_all(&self) -> Result<Vec<local::Instance>, Refusal> {
        match self.ask(Input::DetachAll).await? {
            Reply::AllDetached(all) => Ok(all.into_iter().map(answer::instance).collect()),
            _ => Err(unfit()),
        }
    }

    /// An instance gets no new connections, or gets them again; waits until the runners concerned know it, two seconds at most.
    ///
    /// # Errors
    /// If it isn't here, only calls, or the coordinator is away.
    pub(crate) async fn set_draining(&self, instance: InstanceId, draining: bool) -> Result<local::Drain, Refusal> {
        match self.ask(|call| Input::SetDraining(call, instance, draining)).await? {
            Reply::DrainingSet(shown, pending) => {
                Ok(local::Drain { version: VERSION, instance: answer::instance(shown), pending })
            }
            _ => Err(unfit()),
        }
    }

    /// A TUN has gone, with its namespace or alone.
    pub(crate) fn gone(&self, port: Port) {
        self.send(Message::Happened(Input::TunGone(mesh_lifecycle::Port(port.0))));
    }

    /// The turn of the one that tries a connection.
    pub(super) async fn probing(&self) -> MutexGuard<'_, ()> {
        self.inner.probing.lock().await
    }

    /// Looks at the lifecycle.
    ///
    /// # Errors
    /// If the agent ends.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Lifecycle) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.send(Message::Look(Box::new(move |lifecycle| drop(sender.send(look(lifecycle))))));
        receiver.await.map_err(|_| over())
    }

    async fn ask(&self, input: impl FnOnce(CallId) -> Input) -> Result<Reply, Refusal> {
        self.call(|call| Asked::Other(input(call))).await
    }

    async fn call(&self, asked: impl FnOnce(CallId) -> Asked) -> Result<Reply, Refusal> {
        let call = CallId(self.inner.calls.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.send(Message::Call(call, sender, asked(call)));
        let mut waiting = Waiting { instances: self, call, is_answered: false };
        let reply = receiver.await;
        waiting.is_answered = true;
        reply.map_err(|_| over())?.map_err(Refusal::from)
    }

    /// The task is gone only when the agent ends.
    fn send(&self, message: Message) {
        let _ = self.inner.messages.send(message);
    }
}

fn detached(reply: Reply) -> Result<local::Detach, Refusal> {
    match reply {
        Reply::Detached(shown) => Ok(local::Detach { version: VERSION, instance: answer::instance(shown) }),
        _ => Err(unfit()),
    }
}

fn over() -> Refusal {
    Refusal::new("the agent ends", "start it again; instances stay attached")
}

fn unfit() -> Refusal {
    Refusal::new("the agent's answer doesn't fit the request", "this is a bug: please report it")
}
