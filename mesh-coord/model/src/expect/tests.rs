use super::*;
use crate::{
    Apply, Command, Outcome, Refusal,
    declare::{Deployment, Expect, File},
    testing::{World, declared, file, label, path, refused, trusting, whole},
};

fn expect(from: &str, to: &str, port: u16, allow: bool) -> Expect {
    Expect { from: path(from), to: path(to), port, allow, place: "mesh.toml:7".to_owned() }
}

fn apply(world: &mut World, files: Vec<File>, expect: Vec<Expect>, dry_run: bool) -> Result<Outcome, Refusal> {
    let what = Apply { files, expect, dry_run, force: false, prune: false };
    let by = world.admin.clone();
    world.run(&Command::Apply { by, what })
}

/// `shop` with the service `db`, which trusts `api` by its file.
fn shop() -> File {
    file(Deployment { trust: Some(vec![trusting("api")]), ..declared("shop", None, ["db"]) })
}

#[test]
fn an_apply_is_refused_before_anything_changes_unless_all_expectations_hold_after_it() {
    let mut world = World::new();
    let files = || vec![shop(), whole("api: web")];
    let good = [expect("api/web", "shop/db", 5432, true), expect("shop/db", "api/web", 80, false)];
    let bad = [expect("shop/db", "api/web", 80, true), expect("api/web", "shop/db", 5432, false)];
    let before = world.state.clone();
    for dry_run in [true, false] {
        let all = good.iter().chain(&bad).cloned().collect();
        let told = refused(apply(&mut world, files(), all, dry_run));
        for line in [
            "mesh.toml:7: shop/db may connect to port 80 of api/web, but it is refused: no trust",
            "mesh.toml:7: api/web may not connect to port 5432 of shop/db, but it is allowed",
        ] {
            assert!(told.contains(line), "{line} in {told}");
        }
        assert_eq!(told.lines().count(), 2, "what holds isn't told: {told}");
    }
    apply(&mut world, files(), good.to_vec(), true).unwrap();
    assert_eq!(world.state, before);
    apply(&mut world, files(), good.to_vec(), false).unwrap();
    let told = refused(apply(&mut world, files(), vec![expect("api/web", "nosuch/x", 1, false)], true));
    assert!(told.contains("there is no service nosuch/x"), "a misspelt name must not pass as refused: {told}");
}

#[test]
fn files_alone_decide_what_they_can() {
    let mut world = World::new();
    world.apply(vec![shop(), whole("ops: cron")]).unwrap();
    let judge =
        |from: &str, to: &str, allow| world.state.judge(&world.admin, &expect(from, to, 1, allow), Knowledge::Files);
    let undecided = |judgement| matches!(judgement, Judgement::Undecided { .. });
    assert_eq!(judge("shop/db", "shop/db", true), Judgement::Met);
    assert_eq!(judge("ops/cron", "shop/db", false), Judgement::Met, "the file rules the trust");
    assert_eq!(judge("lab/x", "shop/db", false), Judgement::Met, "not on the list, whatever it is");
    assert!(matches!(judge("lab/x", "shop/db", true), Judgement::Unmet { .. }));
    assert!(undecided(judge("api/web", "shop/db", true)), "it is on the list, and may be of another team");
    assert!(undecided(judge("shop/db", "ops/cron", false)), "a command may give trust there");
    assert!(undecided(judge("shop/db", "lab/x", false)), "nothing is known of it");
    assert!(matches!(judge("shop/db", "shop/nosuch", true), Judgement::Unmet { .. }));
}

#[test]
fn a_teams_administrator_learns_nothing_of_other_teams_by_expecting() {
    let mut world = World::new();
    world.apply(vec![file(declared("lab", Some("other"), ["x"])), whole("shop: db")]).unwrap();
    let by = Admin { team: Some(label("default")), ..world.admin.clone() };
    let judge = |to: &str| world.state.judge(&by, &expect("shop/db", to, 1, false), Knowledge::All);
    let there = judge("lab/x");
    let Judgement::Unmet { why } = &there else { panic!("{there:?}") };
    assert_eq!(
        why.replace("lab/x", "lab/y"),
        match judge("lab/y") {
            Judgement::Unmet { why } => why,
            other => panic!("{other:?}"),
        }
    );
}
