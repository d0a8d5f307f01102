//! A real PostgreSQL in a container of one runner, and its clients in containers of another one.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Outcome, Stack, isolated_for, run, run_for, wait};
use mesh_runtime_tests::{Docker, Stage};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";
const APP: &str = "mesh.service=shop/app";
const API: &str = "mesh.service=billing/api";

/// How many rows of 1 KB: 1 GB, which is in memory twice at the end.
const ROWS: u32 = 1_000_000;
/// How long a gigabyte may take, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Debian's directory of PostgreSQL's programs, of any version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("there is no PostgreSQL: install postgresql").flatten();
    versions.map(|version| version.path().join("bin")).max().expect("a version of PostgreSQL")
}

/// A script in a container with the machine's own programs, as an instance of a service, with PostgreSQL's in its path.
fn client(docker: &Docker, label: &str, script: &str) -> Outcome {
    let script = format!("PATH={}:$PATH; export PGUSER=postgres; {script}", programs().display());
    run_for(LIMIT, docker.prepare_own(&["--rm", "--label", label], &["bash", "-c", &script]))
}

#[test]
fn a_database_is_dumped_and_restored_over_the_mesh() {
    isolated_for(5 * LIMIT, || {
        let stage = Stage::new(&[SHOP, BILLING]);
        let ovh = stage.world.runner(&stage.coordinator, "ovh", Stack::Dual);
        let (here, there) = (Docker::start(&stage.lab, &stage.aws), Docker::start(&stage.lab, &ovh));
        let serve = format!(
            "PATH={}:$PATH; initdb -D /tmp/data -U postgres -E UTF8 --no-locale --no-sync >/dev/null && \
             echo 'host all all 100.112.0.0/12 trust' >>/tmp/data/pg_hba.conf && \
             exec postgres -D /tmp/data -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off \
             -c wal_level=minimal -c max_wal_senders=0",
            programs().display()
        );
        let flags = ["--detach", "--label", "mesh.service=shop/db", "--network", "none"];
        run(here.prepare_own(&flags, &["bash", "-c", &serve])).done();
        let is_ready = || client(&there, APP, "pg_isready -h db.warp").code == Some(0);
        wait::true_within(LIMIT, "PostgreSQL to answer", is_ready);

        // By the name and by the variable. Neither container has another network.
        let fill = format!(
            "psql -q -h db.warp -c \"create table t as select n, repeat(md5(n::text), 32) as text from generate_series(1, {ROWS}) n\""
        );
        client(&there, APP, &fill).done();
        let copy = "set -eo pipefail; createdb -h $WARP_IST_db copy; pg_dump -h $WARP_IST_db postgres | psql -q -1 -h db.warp copy >/dev/null";
        let begun = Instant::now();
        client(&there, APP, copy).done();
        println!("\n1 GB dumped and restored, both over the mesh, in {:.1} s", begun.elapsed().as_secs_f64());
        let sum = |database: &str| {
            let sum = "select count(*), sum(hashtextextended(text, 0)) from t";
            client(&there, APP, &format!("psql -At -h db.warp -c '{sum}' {database}")).done().stdout
        };
        let restored = sum("copy");
        assert!(restored.starts_with(&format!("{ROWS}|")), "{restored}");
        assert_eq!(sum("postgres"), restored);

        let db = stage.coordinator.address_of("shop/db");
        let refused = client(&there, API, &format!("psql -h {db} -c 'select 1'")).expect_code(2);
        assert!(refused.stderr.contains("No route to host"), "{}", refused.stderr);
    });
}
