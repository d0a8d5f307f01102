use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh_proto::{
    Delta, Epoch, Range, Record, Revision, ServicePath,
    message::{Ask, Held},
    view::{Deployment, Network},
};
use mesh_proto::{
    DeploymentId, InstanceId, RelayId,
    relay::{Mapping, Nat, Relayed},
};
use tokio::{sync::watch, task::JoinHandle};

use super::*;
use crate::control::{
    AskError, Control, ask,
    lab::{Peer, pair},
};

/// The coordinator's end of a stream; the agent's end runs in tasks.
struct Coordinator {
    peer: Peer,
    control: Control,
    applied: watch::Sender<Option<Have>>,
    endpoints: watch::Sender<Offered>,
    outside: watch::Sender<Outside>,
    ended: JoinHandle<Ended>,
}

impl Coordinator {
    async fn meet(view: Option<View>) -> Self {
        let (stream, peer) = pair().await;
        let (control, state) = Control::new(view.map(Arc::new), None);
        let (applied, applied_receiver) = watch::channel(None);
        let (endpoints, endpoints_receiver) = watch::channel(Offered::default());
        let (outside, outside_receiver) = watch::channel(Outside::default());
        let ended = tokio::spawn(async move {
            let mut local = LocalState {
                port: 51820,
                endpoints: endpoints_receiver,
                outside: outside_receiver,
                relays: true,
                lanes: false,
                applied: applied_receiver,
                telemetry: mpsc::channel(1).1,
                probe: Box::new(|[caller, callee], port| {
                    let refusal = Refusal::bare(format!("{caller} {callee} {port}"));
                    Box::pin(async move { Err(refusal) })
                }),
                held: Box::new(|| Box::pin(async { vec![held()] })),
            };
            let ended = serve(stream, RunnerId(1), &state, &mut local).await;
            state.queue.close();
            ended
        });
        Self { peer, control, applied, endpoints, outside, ended }
    }

    /// Waits for a view with this property.
    async fn view_where(&self, has: impl Fn(&View) -> bool) -> Option<Arc<View>> {
        let mut views = self.control.views();
        let found = views.wait_for(|view| view.as_deref().is_some_and(&has));
        timeout(SILENCE, found).await.ok()?.ok()?.clone()
    }

    async fn say(&mut self, message: Down) {
        self.peer.say(&message).await;
    }

    async fn hear(&mut self) -> Up {
        self.peer.hear().await.unwrap()
    }

    async fn welcome(&mut self) {
        self.peer.welcome().await;
    }
}

fn held() -> Held {
    let service: ServicePath = "shop/db".parse().unwrap();
    Held {
        instance: InstanceId(3),
        service,
        address: Ipv4Addr::new(100, 112, 0, 9),
        client: false,
        draining: false,
        release: None,
    }
}

fn view(epoch: u8, revision: u64) -> View {
    let network = Network { range: Range::DEFAULT, mtu: 1344 };
    View::empty(Epoch([epoch; 16]), Revision(revision), RunnerId(1), network)
}

fn have(view: &View) -> Option<Have> {
    Some(Have { epoch: view.epoch, revision: view.revision })
}

/// Adds a deployment.
fn delta(from: u64, to: u64) -> Delta {
    let deployment = Deployment {
        id: DeploymentId(to),
        name: "shop".parse().unwrap(),
        team: "acme".parse().unwrap(),
        trust_source: None,
    };
    Delta {
        from: Revision(from),
        to: Revision(to),
        put: vec![Record::Deployment(Arc::new(deployment))],
        remove: vec![],
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_what_only_the_agent_knows() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    let Up::Hello { protocol, have: told, port, instances, .. } = coordinator.hear().await else { panic!() };
    assert_eq!((protocol, told, port), (PROTOCOL, have(&view(1, 7)), 51820));
    assert_eq!(instances, [held()]);
    assert!(!coordinator.control.link().connected, "not before it is welcome");
    coordinator.say(Down::Welcome { seen_from: IpAddr::V4(Ipv4Addr::LOCALHOST) }).await;
    coordinator.say(Down::Snapshot { view: view(1, 8) }).await;
    assert!(coordinator.control.connected(SILENCE).await);
}

#[tokio::test(start_paused = true)]
async fn snapshots_and_deltas_make_the_view() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    coordinator.say(Down::Snapshot { view: view(1, 7) }).await;
    coordinator.say(Down::Delta(delta(7, 9))).await;
    let at_9 = coordinator.view_where(|view| view.revision == Revision(9)).await.unwrap();
    assert!(at_9.deployment(DeploymentId(9)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_healed_by_a_snapshot_and_nothing_in_between_counts() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.welcome().await;
    coordinator.say(Down::Delta(delta(8, 9))).await;
    assert!(matches!(coordinator.hear().await, Up::Resync));
    assert_eq!(coordinator.control.view().unwrap().revision, Revision(7), "a gap changes nothing");
    coordinator.say(Down::Delta(delta(7, 8))).await;
    coordinator.say(Down::Ping).await;
    assert!(matches!(coordinator.hear().await, Up::Pong), "no second request for what is on its way");
    assert_eq!(coordinator.control.view().unwrap().revision, Revision(7));
    coordinator.say(Down::Snapshot { view: view(2, 3) }).await;
    coordinator.say(Down::Delta(delta(3, 4))).await;
    let view = coordinator.view_where(|view| view.revision == Revision(4)).await.unwrap();
    assert_eq!(view.epoch, Epoch([2; 16]));
}

#[tokio::test(start_paused = true)]
async fn a_view_never_goes_back_within_its_epoch() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.welcome().await;
    coordinator.say(Down::Snapshot { view: view(1, 6) }).await;
    let ended = coordinator.ended.await.unwrap();
    let behind = SessionEnd::Behind { theirs: Revision(6), ours: Revision(7) };
    assert_eq!(ended.why.to_string(), behind.to_string());
    assert_eq!(coordinator.control.view().unwrap().as_ref(), &view(1, 7));
    assert!(!coordinator.control.link().synced, "nothing shows that the view at hand is current");
    // Another epoch has its own revisions, and the same revision is no step back.
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.welcome().await;
    coordinator.say(Down::Snapshot { view: view(1, 7) }).await;
    coordinator.say(Down::Snapshot { view: view(2, 3) }).await;
    assert!(
        coordinator.view_where(|view| (view.epoch, view.revision) == (Epoch([2; 16]), Revision(3))).await.is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn a_delta_before_any_view_is_a_gap() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    coordinator.say(Down::Delta(delta(0, 9))).await;
    assert!(matches!(coordinator.hear().await, Up::Resync));
    assert!(coordinator.control.view().is_none());
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_force_is_reported_and_only_in_its_epoch() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.welcome().await;
    // In force from the disk, before the coordinator has shown whether it is the same one.
    coordinator.applied.send_replace(have(&view(1, 7)));
    coordinator.say(Down::Snapshot { view: view(2, 7) }).await;
    coordinator.say(Down::Ping).await;
    assert!(matches!(coordinator.hear().await, Up::Pong), "revision 7 of the other epoch is not in force");
    coordinator.applied.send_replace(have(&view(2, 7)));
    let Up::Applied { revision } = coordinator.hear().await else { panic!() };
    assert_eq!(revision, Revision(7));
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_reports_what_is_in_force() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.applied.send_replace(have(&view(1, 7)));
    coordinator.welcome().await;
    let nothing_new = Delta { from: Revision(7), to: Revision(7), put: vec![], remove: vec![] };
    coordinator.say(Down::Delta(nothing_new)).await;
    let Up::Applied { revision } = coordinator.hear().await else { panic!() };
    assert_eq!(revision, Revision(7));
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_without_changes_reports_too() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    coordinator.applied.send_replace(have(&view(1, 7)));
    coordinator.welcome().await;
    coordinator.say(Down::Ping).await;
    let Up::Applied { revision } = coordinator.hear().await else { panic!() };
    assert_eq!(revision, Revision(7));
    assert!(matches!(coordinator.hear().await, Up::Pong));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_dropped() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    for _ in 0..3 {
        tokio::time::sleep(SILENCE - Duration::from_millis(1)).await;
        coordinator.say(Down::Ping).await;
        assert!(matches!(coordinator.hear().await, Up::Pong));
    }
    let ended = coordinator.ended.await.unwrap();
    assert!(ended.welcomed && matches!(ended.why, SessionEnd::Silent), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_questions_in_any_order() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    let ask = |instance| {
        let control = coordinator.control.clone();
        tokio::spawn(async move { control.ask(ask::Detach(InstanceId(instance))).await })
    };
    let (first, second) = (ask(1), ask(2));
    let mut asked = vec![];
    for _ in 0..2 {
        match coordinator.hear().await {
            Up::Ask { request, ask: Ask::Detach { instance } } => asked.push((instance, request)),
            other => panic!("{other:?}"),
        }
    }
    asked.sort_unstable();
    let refusal = Refusal::new("no", "later");
    coordinator.say(Down::Answer { request: 999, result: Err(refusal.clone()) }).await;
    coordinator.say(Down::Answer { request: asked[1].1, result: Ok(Answer::Detached { revision: Revision(5) }) }).await;
    coordinator.say(Down::Answer { request: asked[0].1, result: Err(refusal.clone()) }).await;
    assert_eq!(second.await.unwrap().unwrap(), Revision(5));
    let refused = first.await.unwrap();
    assert!(matches!(&refused, Err(AskError::Refused(said)) if *said == refusal), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_whose_stream_ends_is_not_left_waiting() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    let control = coordinator.control.clone();
    let asked = tokio::spawn(async move { control.ask(ask::Detach(InstanceId(1))).await });
    coordinator.hear().await;
    coordinator.peer.close().await;
    assert!(matches!(asked.await.unwrap(), Err(AskError::Away(_))));
    assert!(coordinator.ended.await.unwrap().welcomed);
}

#[tokio::test(start_paused = true)]
async fn changed_addresses_are_reported() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    let address: SocketAddr = "192.0.2.1:51820".parse().unwrap();
    coordinator.endpoints.send_replace(Offered { addresses: vec![address], only: false });
    let Up::Endpoints { endpoints, .. } = coordinator.hear().await else { panic!() };
    assert_eq!(endpoints, [address]);
    let relayed = Relayed { relay: RelayId(1), address };
    let nat = Some(Nat { udp: true, mapping: Mapping::Same });
    coordinator.outside.send_replace(Outside { reflexive: vec![address], relayed: vec![relayed], nat });
    let Up::Endpoints { endpoints, reflexive, relayed: at, nat: kind } = coordinator.hear().await else { panic!() };
    assert_eq!((endpoints, reflexive, at, kind), (vec![address], vec![address], vec![relayed], nat));
}

#[tokio::test(start_paused = true)]
async fn another_stream_begins_where_peers_are_to_try_nothing_else() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    coordinator.endpoints.send_replace(Offered { addresses: vec![], only: true });
    assert!(coordinator.peer.hear().await.is_none(), "only the beginning of a stream says it");
    let ended = coordinator.ended.await.unwrap();
    assert!(matches!(ended.why, SessionEnd::Renewed), "{:?}", ended.why);
}

#[tokio::test(start_paused = true)]
async fn relays_are_asked_for_and_handed_on() {
    let mut coordinator = Coordinator::meet(None).await;
    let Up::Hello { can, .. } = coordinator.hear().await else { panic!() };
    assert_eq!(can, Abilities::AGENT.without(Ability::Lanes));
    let mut relays = coordinator.control.relays();
    assert_eq!(*relays.borrow(), None);
    coordinator.say(Down::Relays { relays: vec![], credentials: vec![] }).await;
    let provided = relays.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(*provided.unwrap(), Provided::default());
}

#[tokio::test(start_paused = true)]
async fn an_agent_refused_as_a_copy_shows_it() {
    let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
    let Up::Hello { process, refused, .. } = coordinator.hear().await else { panic!() };
    assert!(process.is_some() && !refused);
    let refusal = Refusal::new("this machine is a copy", "delete its state directory");
    coordinator.say(Down::Refused { cause: Cause::Copy, refusal: refusal.clone() }).await;
    let ended = coordinator.ended.await.unwrap();
    assert!(matches!(&ended.why, SessionEnd::Refused(said) if *said == refusal), "{ended:?}");
    let link = coordinator.control.link();
    assert!(link.unknown && link.copy && !link.connected);
}

#[tokio::test(start_paused = true)]
async fn an_unintelligible_message_ends_the_stream_and_not_the_agent() {
    let mut theirs = view(1, 1);
    theirs.runner = RunnerId(2);
    for nonsense in [
        Message::text("{}"),
        Message::text("{\"type\":\"reformat-disk\"}"),
        Message::binary(vec![0]),
        Message::text(serde_json::to_string(&Down::Snapshot { view: theirs.clone() }).unwrap()),
    ] {
        let mut coordinator = Coordinator::meet(Some(view(1, 7))).await;
        coordinator.welcome().await;
        coordinator.peer.send(nonsense.clone()).await;
        let ended = coordinator.ended.await.unwrap();
        assert!(ended.welcomed, "{nonsense:?}: {ended:?}");
        assert_eq!(coordinator.control.view().unwrap().revision, Revision(7));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_question_is_an_error() {
    let mut coordinator = Coordinator::meet(None).await;
    coordinator.welcome().await;
    let control = coordinator.control.clone();
    let asked = tokio::spawn(async move { control.ask(ask::Leave).await });
    let Up::Ask { request, .. } = coordinator.hear().await else { panic!() };
    coordinator.say(Down::Answer { request, result: Ok(Answer::Settled { pending: vec![] }) }).await;
    assert!(matches!(asked.await.unwrap(), Err(AskError::Mismatch)));
}
