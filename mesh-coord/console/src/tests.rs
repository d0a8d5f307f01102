use crate::{model::*, *};

const FRAME: Frame<'_> = Frame { path: "/", mesh: "https://h:7443" };
/// A value that would be markup, a script or an attribute if it weren't escaped.
const HOSTILE: &str = r#"</td><script>alert(1)</script>"onload='x'&lt;"#;

fn read<T: for<'a> serde::Deserialize<'a>>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn refusals(from: &str) -> Refusals {
    let row = Refused { from: from.to_owned(), to: "shop/db".to_owned(), port: 5432, ..Refused::default() };
    Refusals { coverage: Coverage { runners: 2, reporting: 1, oldest_seconds: Some(70) }, refused: vec![row] }
}

#[test]
fn nothing_that_others_choose_becomes_markup() {
    let hostile = HOSTILE.to_owned();
    let entry =
        Entry { by: hostile.clone(), detail: hostile.clone(), by_name: Some(hostile.clone()), ..Entry::default() };
    let entries = Audit { audit: vec![entry], next: None };
    let need = Need { text: hostile.clone(), hint: hostile.clone(), level: hostile.clone() };
    let whole = Overview { needs: vec![need], ..Overview::default() };
    let node = Node {
        name: hostile.clone(),
        scope: hostile.clone(),
        agent: hostile.clone(),
        state: hostile.clone(),
        ..Node::default()
    };
    let instance =
        ServiceInstance { release: Some(hostile.clone()), runner: hostile.clone(), ..ServiceInstance::default() };
    let service = Service { service: hostile.clone(), instances: vec![instance], ..Service::default() };
    let deployment = Deployment { deployment: hostile.clone(), trusts: vec![hostile.clone()], ..Deployment::default() };
    let edge = Edge { from: hostile.clone(), to: hostile.clone(), ..Edge::default() };
    let edges = Edges { edges: vec![edge], ..Edges::default() };
    let step = Step { detail: hostile.clone(), ..Step::default() };
    let answer = Ok(Why { verdict: hostile.clone(), steps: vec![step] });
    let frame = Frame { mesh: HOSTILE, ..FRAME };
    let pages = [
        overview(&frame, &whole, Some(&refusals(HOSTILE)), &entries),
        runners(&frame, &Nodes { nodes: vec![node] }),
        services(&frame, &Services { services: vec![service] }, Some(&edges)),
        map(&frame, &Deployments { deployments: vec![deployment] }, Some(&edges), Some(&refusals(HOSTILE))),
        refused(&frame, &refusals(HOSTILE)),
        audit(&frame, &entries),
        why(&frame, [HOSTILE, HOSTILE, HOSTILE], Some(&answer)),
        why(&frame, ["", "", ""], Some(&Err((hostile.clone(), Some(hostile))))),
        failure(&frame, HOSTILE, Some(HOSTILE)),
    ];
    for page in pages.map(Markup::into_string) {
        assert!(page.contains("&lt;/td&gt;&lt;script&gt;"), "it is shown: {page}");
        assert!(!page.contains("<script>") && !page.contains("</td><script"), "{page}");
        assert!(!page.contains(r#""onload"#), "{page}");
    }
}

#[test]
fn pages_keep_to_the_policy_and_can_be_used_without_eyes() {
    let page = overview(&FRAME, &Overview::default(), None, &Audit::default()).into_string();
    assert!(!page.contains("style=") && !page.contains(" on") && page.matches("<script").count() == 1, "{page}");
    for part in [r#"lang="en""#, r##"href="#content""##, r#"aria-current="page""#, "<title>Overview"] {
        assert!(page.contains(part), "{part} is missing: {page}");
    }
    let page = refused(&Frame { path: "/refused", ..FRAME }, &refusals("billing/api")).into_string();
    assert!(page.contains("<caption>") && page.contains(r#"scope="row""#), "{page}");
    assert!(page.contains(r#"href="/why?from=billing/api&amp;to=shop/db&amp;port=5432""#), "{page}");
    assert!(page.contains("1 of 2 runners report, the oldest report is from 1m 10s ago."), "{page}");
    assert!(SCRIPT.lines().count() <= 150 && !SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval"));
}

#[test]
fn a_thousand_runners_are_a_page_of_moderate_size() {
    let node = |n: usize| Node {
        name: format!("runner-{n}"),
        provider: "aws".to_owned(),
        state: "online".to_owned(),
        scope: "every deployment".to_owned(),
        agent: "0.3.0".to_owned(),
        endpoints: vec!["203.0.113.7:51820".to_owned()],
        ..Node::default()
    };
    let page = runners(&FRAME, &Nodes { nodes: (0..1000).map(node).collect() }).into_string();
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn answers_of_earlier_coordinators_are_read() {
    let nodes: Nodes = read(
        r#"{"version":1,"nodes":[{"id":"r-1","name":"a","provider":"aws","state":"silent","endpoints":[],"revision":null,"last_seen_seconds":3700,"scope":"all","instances":2,"agent":""}]}"#,
    );
    let page = runners(&FRAME, &nodes).into_string();
    assert!(page.contains("1h 1m ago") && page.contains("✖</span> silent"), "{page}");
}
