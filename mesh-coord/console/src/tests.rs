use std::sync::LazyLock;

use crate::{model::*, *};

static WHO: LazyLock<Me> = LazyLock::new(Me::default);

fn frame(path: &str) -> Frame<'_> {
    Frame { path, mesh: "https://h:7443", who: &WHO, proof: "secret", signed_in: true, notice: None }
}

/// A value that would be markup, a script or an attribute if it weren't escaped.
const HOSTILE: &str = r#"</td><script>alert(1)</script>"onload='x'&lt;"#;

fn read<T: for<'a> serde::Deserialize<'a>>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn refusals(from: &str) -> Refusals {
    let row = Refused { from: from.to_owned(), to: "shop/db".to_owned(), port: 5432, ..Refused::default() };
    Refusals {
        coverage: Coverage { runners: 2, reporting: 1, oldest_seconds: Some(70), lacking: vec![] },
        refused: vec![row],
    }
}

/// Every page with something hostile in every text.
fn hostile_pages() -> Vec<Markup> {
    let hostile = || HOSTILE.to_owned();
    let entry = Entry {
        by: hostile(),
        object: Some(hostile()),
        detail: hostile(),
        by_name: Some(hostile()),
        ..Entry::default()
    };
    let entries = Audit { audit: vec![entry], next: None };
    let trail = Trail { by: hostile(), object: hostile(), action: hostile(), ..Trail::default() };
    let need = Need { text: hostile(), hint: hostile(), level: hostile() };
    let whole = Overview { needs: vec![need], ..Overview::default() };
    let node = Node { name: hostile(), scope: hostile(), agent: hostile(), state: hostile(), ..Node::default() };
    let nodes = Nodes { nodes: vec![node.clone()] };
    let filter = Filter { text: String::new(), state: String::new(), page: 1 };
    let instance = ServiceInstance { release: Some(hostile()), runner: hostile(), state: hostile(), id: hostile() };
    let shown =
        Instance { id: hostile(), service: hostile(), runner: hostile(), state: "live".to_owned(), address: hostile() };
    let service =
        Service { service: hostile(), deployment: hostile(), instances: vec![instance], ..Service::default() };
    let own = Deployment {
        deployment: hostile(),
        trusts: vec![hostile()],
        expose: Some(vec![hostile()]),
        trust_file: Some(hostile()),
        ..Deployment::default()
    };
    let trust = TrustEntry { caller: hostile(), services: vec![hostile()], ports: vec![1] };
    let trust = Trust { trust: vec![trust], pending: vec![hostile()], concerned: Some(3) };
    let found = Found {
        deployments: vec![own.clone()],
        services: vec![service.clone()],
        instances: vec![shown.clone()],
        nodes: vec![node.clone()],
    };
    let edge = Edge { from: hostile(), to: hostile(), open: 1, ..Edge::default() };
    let edges = Edges { edges: vec![edge], ..Edges::default() };
    let pair = OfPair { from: service.path(), to: hostile(), opened: vec![1; 24] };
    let series = Series { series: vec![pair] };
    let step = Step { detail: hostile(), ..Step::default() };
    let answer = Ok(Why { verdict: hostile(), steps: vec![step.clone()], node: Some(hostile()) });
    let may = Ok(Why { verdict: "allow".to_owned(), steps: vec![step], node: None });
    let token =
        Token { id: hostile(), scope: hostile(), name: Some(hostile()), nodes: vec![hostile()], ..Token::default() };
    let relay = Relay { name: hostile(), udp: vec![hostile()], agent: Some(hostile()), ..Relay::default() };
    let notice = Notice { text: hostile(), warnings: vec![hostile()] };
    let who = Me { name: Some(hostile()), token: Some(hostile()), team: Some(hostile()), role: Role::Admin };
    let frame = Frame { mesh: HOSTILE, notice: Some(&notice), who: &who, proof: HOSTILE, ..frame("/") };
    let (lines, wanted) =
        ([hostile()], Wanted { names: hostile(), name: hostile(), ttl: hostile(), ..Wanted::default() });
    let ask = Ask {
        title: HOSTILE,
        back: HOSTILE,
        fields: &[("caller", HOSTILE)],
        typed: Some(HOSTILE),
        effect: Some(&lines),
        warnings: &lines,
        refused: Some((HOSTILE, Some(HOSTILE))),
        button: HOSTILE,
    };
    let made = Joined { id: HOSTILE, token: HOSTILE, line: Some(HOSTILE), warnings: &lines };
    let deployments = Deployments { deployments: vec![own.clone()] };
    let services_of = [service.clone()];
    let deployed = |own| Deployed {
        deployment: own,
        services: &services_of,
        trust: &trust,
        sentences: &lines,
        others: &[HOSTILE],
        edges: Some(&edges),
    };
    let free = Deployment { trust_file: None, ..own.clone() };
    vec![
        overview(&frame, &whole, Some(&refusals(HOSTILE)), &entries),
        runners(&frame, &nodes, &filter),
        runners(&frame, &nodes, &Filter { text: hostile(), state: hostile(), page: 7 }),
        runner(&frame, &node, &[shown]),
        services(&frame, &Services { services: vec![service.clone()] }, Some(&edges), 1),
        self::service(&frame, &service, Some(&edges), Some(&series), Some(&refusals(HOSTILE))),
        map(&frame, &deployments, Some(&edges), Some(&refusals(HOSTILE))),
        self::deployments(&frame, &deployments, 1),
        deployment(&frame, &deployed(&own)),
        deployment(&frame, &deployed(&free)),
        refused(&frame, &refusals(HOSTILE)),
        audit(&frame, &entries, &trail),
        search(&frame, HOSTILE, &found),
        why(&frame, [HOSTILE, HOSTILE, HOSTILE], Some(&answer)),
        why(&frame, [HOSTILE, HOSTILE, HOSTILE], Some(&may)),
        why(&frame, ["", "", ""], Some(&Err((hostile(), Some(hostile()))))),
        tokens(&frame, &Tokens { tokens: vec![token] }, &wanted, Some((HOSTILE, Some(HOSTILE)))),
        joined(&frame, Some(&made)),
        relays(&frame, &Relays { relays: vec![relay] }),
        confirm(&frame, &ask),
        failure(&frame, HOSTILE, Some(HOSTILE)),
        sign_in(Some((HOSTILE, Some(HOSTILE)))),
        closed(HOSTILE),
    ]
}

#[test]
fn nothing_that_others_choose_becomes_markup() {
    for page in hostile_pages().into_iter().map(Markup::into_string) {
        assert!(page.contains("&lt;/td&gt;&lt;script&gt;"), "it is shown: {page}");
        assert!(!page.contains("<script>") && !page.contains("</td><script"), "{page}");
        assert!(!page.contains(r#""onload"#), "{page}");
    }
}

#[test]
fn pages_keep_to_the_policy_and_can_be_used_without_eyes() {
    for page in hostile_pages().into_iter().map(Markup::into_string) {
        assert!(!page.contains("style=") && page.matches("<script").count() == 1, "{page}");
        for part in [r#"lang="en""#, "<h1>", "<title>"] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        assert_eq!(page.matches("<table").count(), page.matches("<caption>").count(), "{page}");
        // Whatever is posted has what shows that it is of this session; signing in has no session yet.
        let posts = page.matches(r#"method="post""#).count() - page.matches(r#"action="/sign-in""#).count();
        assert_eq!(posts, page.matches(r#"name="proof""#).count(), "{page}");
    }
    let page = overview(&frame("/"), &Overview::default(), None, &Audit::default()).into_string();
    assert!(page.contains(r##"href="#content""##) && page.contains(r#"aria-current="page""#), "{page}");
    let page = refused(&frame("/refused"), &refusals("billing/api")).into_string();
    assert!(page.contains(r#"href="/why?from=billing/api&amp;to=shop/db&amp;port=5432""#), "{page}");
    assert!(page.contains("1 of 2 runners report, the oldest report is from 1m 10s ago."), "{page}");
    assert!(SCRIPT.lines().count() <= 150 && !SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval"));
}

#[test]
fn those_who_may_not_change_something_get_no_way_to() {
    let pages = |role| {
        let who = Me { role, ..Me::default() };
        let frame = Frame { who: &who, signed_in: false, ..frame("/runners") };
        let node = Node { name: "aws".to_owned(), ..Node::default() };
        let own = Deployment { deployment: "shop".to_owned(), ..Deployment::default() };
        let entry = TrustEntry { caller: "api".to_owned(), ..TrustEntry::default() };
        let trust = Trust { trust: vec![entry], ..Trust::default() };
        let empty =
            Deployed { deployment: &own, services: &[], trust: &trust, sentences: &[], others: &[], edges: None };
        let token = Token { id: "t-1".to_owned(), ..Token::default() };
        [
            runner(&frame, &node, &[]).into_string(),
            deployment(&frame, &empty).into_string(),
            tokens(&frame, &Tokens { tokens: vec![token] }, &Wanted::default(), None).into_string(),
        ]
    };
    for page in pages(Role::Viewer) {
        assert!(!page.contains("/act") && !page.contains("method=\"post\""), "{page}");
        // The search is for all.
        assert_eq!(page.matches("<button").count(), 1, "{page}");
    }
    let [runner, deployment, tokens] = pages(Role::Operator);
    assert!(runner.contains("do=drain-node") && !runner.contains("do=remove-node") && !runner.contains("do=switch"));
    assert!(deployment.contains("do=take") && !tokens.contains("do=revoke"));
    let [runner, _, tokens] = pages(Role::Admin);
    assert!(runner.contains("do=remove-node") && runner.contains("do=switch") && tokens.contains("do=revoke"));
}

#[test]
fn how_far_a_change_is_in_force_is_counted() {
    let shown = |pending: &[&str], concerned| {
        let pending: Vec<String> = pending.iter().map(|name| (*name).to_owned()).collect();
        let (own, trust) = (Deployment::default(), Trust { pending, concerned, ..Trust::default() });
        let of = Deployed { deployment: &own, services: &[], trust: &trust, sentences: &[], others: &[], edges: None };
        deployment(&frame("/deployments"), &of).into_string()
    };
    assert!(shown(&["hz-4"], Some(3)).contains("In force 2/3 runners; not yet at hz-4"));
    assert!(shown(&[], Some(3)).contains("In force 3/3 runners"));
    assert!(shown(&["hz-4"], None).contains("In force not everywhere"));
    assert!(
        shown(&["hz-4"], Some(3)).contains(r#"data-every="1""#) && shown(&[], Some(3)).contains(r#"data-every="5""#)
    );
}

fn node(number: usize) -> Node {
    Node {
        id: format!("r-{number}"),
        name: format!("runner-{number}"),
        provider: "aws".to_owned(),
        state: if number.is_multiple_of(10) { "silent" } else { "online" }.to_owned(),
        scope: "every deployment".to_owned(),
        agent: "0.3.0".to_owned(),
        endpoints: vec!["203.0.113.7:51820".to_owned(), "[2001:db8::1]:51820".to_owned()],
        ..Node::default()
    }
}

#[test]
fn a_thousand_runners_are_pages_of_moderate_size() {
    let nodes = Nodes { nodes: (0..1000).map(node).collect() };
    let of = |text: &str, state: &str, page| {
        let filter = Filter { text: text.to_owned(), state: state.to_owned(), page };
        runners(&frame("/runners"), &nodes, &filter).into_string()
    };
    let first = of("", "", 1);
    assert!(first.len() < 100_000, "{} bytes", first.len());
    assert!(
        first.contains("1000 of 1000, page 1 of 10") && first.contains("page=2") && !first.contains("rel=\"prev\"")
    );
    let last = of("", "", 99);
    assert!(last.contains("page 10 of 10") && last.contains("runner-999") && !last.contains("rel=\"next\""));
    assert!(of("ner-77", "", 1).contains("11 of 1000") && of("", "silent", 1).contains("100 of 1000"));
    assert!(of("2001:db8", "online", 9).contains("900 of 1000, page 9 of 9"));
}

#[test]
fn ten_thousand_services_and_deployments_are_pages_of_moderate_size() {
    let service = |number| Service {
        deployment: format!("deployment-{number}"),
        service: "api".to_owned(),
        instances: vec![ServiceInstance::default(); 4],
        ..Service::default()
    };
    let all = Services { services: (0..10_000).map(service).collect() };
    let last = services(&frame("/services"), &all, None, 100).into_string();
    assert!(last.len() < 100_000 && last.contains("10000, page 100 of 100"), "{} bytes", last.len());
    assert!(last.contains("deployment-9999") && last.contains("/services?page=99") && !last.contains("rel=\"next\""));
    let deployment = |number| Deployment { deployment: format!("deployment-{number}"), ..Deployment::default() };
    let all = Deployments { deployments: (0..10_000).map(deployment).collect() };
    let first = deployments(&frame("/deployments"), &all, 0).into_string();
    assert!(first.len() < 100_000 && first.contains("10000, page 1 of 100"), "{} bytes", first.len());
    assert!(first.contains("/deployments?page=2") && !first.contains("deployment-100<"));
}

#[test]
fn an_overview_of_a_thousand_runners_is_small() {
    let need = |number: usize| Need {
        level: "warning".to_owned(),
        text: format!("runner-{number} has no stream to the coordinator, and nine more: {}", "runner-1000, ".repeat(9)),
        hint: "`mesh-node status` there says why; `mesh-coord node remove` takes out what is gone for good".to_owned(),
    };
    let provider =
        |number: usize| Provider { provider: format!("provider-{number}"), online: 16, ..Provider::default() };
    let whole = Overview {
        needs: (0..100).map(need).collect(),
        providers: (0..60).map(provider).collect(),
        ..Overview::default()
    };
    let many = Refusals { refused: vec![refusals("billing/api").refused.remove(0); 2000], ..Refusals::default() };
    let entry = Entry { detail: "x".repeat(2000), ..Entry::default() };
    let audit = Audit { audit: vec![entry; 8], next: None };
    let page = overview(&frame("/"), &whole, Some(&many), &audit).into_string();
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn sixty_deployments_are_drawn_and_more_are_a_table() {
    let page = |number: usize| {
        let name = |n: usize| format!("deployment-{n:03}");
        let deployment = |n| Deployment {
            deployment: name(n),
            trusts: vec![name((n * 7 + 1) % number), name((n * 13 + 5) % number)],
            ..Deployment::default()
        };
        let deployments = Deployments { deployments: (0..number).map(deployment).collect() };
        map(&frame("/map"), &deployments, Some(&Edges::default()), None).into_string()
    };
    let sixty = page(60);
    assert_eq!(sixty.matches("class=\"node\"").count(), 60);
    assert!(
        sixty.contains("deployment-059 to ") && sixty.contains("<table class=\"matrix\"") && sixty.len() < 1_000_000
    );
    let more = page(61);
    assert!(!more.contains("<svg") && !more.contains("matrix\"") && more.contains("would not fit a screen"), "{more}");
}

#[test]
fn answers_of_earlier_coordinators_are_read() {
    let nodes: Nodes = read(
        r#"{"version":1,"nodes":[{"id":"r-1","name":"a","provider":"aws","state":"silent","endpoints":[],"revision":null,"last_seen_seconds":3700,"scope":"all","instances":2,"agent":""}]}"#,
    );
    let page = runners(&frame("/runners"), &nodes, &Filter::default()).into_string();
    assert!(page.contains("1h 1m ago") && page.contains("✖</span> silent"), "{page}");
    assert_eq!(read::<Me>(r#"{"version":1,"role":"viewer","team":null,"token":"t-1","name":null}"#).role, Role::Viewer);
}

#[test]
fn the_search_finds_by_parts_of_names_and_addresses_and_instances_by_their_identifiers() {
    let all = || Found {
        deployments: vec![Deployment { deployment: "shop".into(), team: "acme".into(), ..Deployment::default() }],
        services: vec![Service {
            deployment: "shop".into(),
            service: "db".into(),
            address: "100.112.0.5".into(),
            ..Service::default()
        }],
        instances: vec![
            Instance { id: "i-7".into(), address: "100.127.0.9".into(), ..Instance::default() },
            Instance { id: "i-77".into(), ..Instance::default() },
        ],
        nodes: vec![Node {
            name: "aws-1".into(),
            id: "r-3".into(),
            endpoints: vec!["192.0.2.1:51820".into()],
            ..Node::default()
        }],
    };
    let numbers = |word: &str| {
        let mut found = all();
        found.leave(word);
        [found.deployments.len(), found.services.len(), found.instances.len(), found.nodes.len()]
    };
    assert_eq!(numbers("SHOP"), [1, 1, 0, 0]);
    assert_eq!((numbers("i-7"), numbers("100.1"), numbers("192.0.2.1")), ([0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]));
    assert_eq!((numbers("r-3"), numbers("acme"), numbers("")), ([0, 0, 0, 1], [1, 0, 0, 0], [0; 4]));
    let page = search(&frame(SEARCH_PATH), "shop", &all()).into_string();
    assert!(page.contains("5 found for «shop»") && page.contains(r#"href="/d/shop/db""#), "{page}");
}

#[test]
fn filters_of_the_audit_stay_on_its_other_pages() {
    let trail = Trail { by: "uid 0".into(), result: "refused".into(), hours: "24".into(), ..Trail::default() };
    let entry = Entry { action: "trust".into(), object: Some("shop".into()), ..Entry::default() };
    let page = audit(&frame("/audit"), &Audit { audit: vec![entry], next: Some(7) }, &trail).into_string();
    assert!(page.contains(r#"href="/audit?by=uid%200&amp;result=refused&amp;hours=24&amp;before=7""#), "{page}");
    assert!(page.contains(r#"href="/audit.ndjson?by=uid%200&amp;result=refused&amp;hours=24""#), "{page}");
    assert!(page.contains(r#"<option value="24" selected>"#) && page.contains(r#"href="/d/shop""#), "{page}");
}
