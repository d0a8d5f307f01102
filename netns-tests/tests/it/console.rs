//! The console: pages of a mesh at work, for the browser that has followed the link, and for nothing else.

use std::io::{BufRead as _, BufReader};

use mesh_netns_tests::{Coordinator, Outcome, Stack, World, isolated, run, traffic::Answer, wait};

use crate::common::{SHOP, declare};

const REPORTS: &str = "deployment = \"reports\"\n[services.sales]\n";

/// A console that runs.
struct Console<'a> {
    coordinator: &'a Coordinator,
    process: std::process::Child,
    link: String,
}

impl<'a> Console<'a> {
    fn start(coordinator: &'a Coordinator) -> Self {
        let mut command = coordinator.prepare(&["console"]);
        command.stdout(std::process::Stdio::piped());
        let mut process = command.spawn().expect("the console");
        let mut link = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut link).expect("the link");
        Self { coordinator, process, link: link.trim().to_owned() }
    }

    fn origin(&self) -> &str {
        self.link.split("/?").next().expect("an origin")
    }

    /// The answer's status, headers and body.
    fn get(&self, url: &str, flags: &[&str]) -> String {
        self.curl(url, flags).done().stdout
    }

    fn curl(&self, url: &str, flags: &[&str]) -> Outcome {
        let mut command = self.coordinator.namespace().command("curl");
        command.args(["-sS", "-i", "--max-time", "10"]).args(flags).arg(url);
        run(command)
    }

    /// Follows the link, as a browser does; returns the cookie.
    fn enter(&self) -> String {
        let answer = self.get(&self.link, &[]);
        assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /\r\n"), "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
        cookie.split(';').next().expect("a value").to_owned()
    }
}

impl Drop for Console<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_pages_show_what_is_used_and_refused_and_only_to_the_browser_that_followed_the_link() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, REPORTS]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let gcp = world.runner(&coordinator, "gcp", Stack::Dual);
        let (app, sales, db) = (aws.attach("shop/app"), aws.attach("reports/sales"), gcp.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let _standing = app.connect(db.service_address, 5432).expect("a connection");
        sales.connect(db.service_address, 5432).expect_err("there is no trust");

        let console = Console::start(&coordinator);
        let origin = console.origin().to_owned();
        let stranger = console.get(&format!("{origin}/"), &[]);
        assert!(stranger.starts_with("HTTP/1.1 401") && !stranger.contains("shop"), "{stranger}");
        let cookie = console.enter();
        let again = console.get(&console.link, &[]);
        assert!(again.starts_with("HTTP/1.1 401"), "the link works once: {again}");
        let page = |path: &str| console.get(&format!("{origin}{path}"), &["-b", &cookie]);

        let overview = page("/");
        assert!(overview.starts_with("HTTP/1.1 200") && overview.contains("the mesh is whole"), "{overview}");
        for header in ["content-security-policy: default-src 'none'", "cache-control: no-store", "nosniff"] {
            assert!(overview.contains(header), "{header}: {overview}");
        }
        // The console makes runners report often.
        wait::until_true("the connection on the map", || page("/map").contains("═ 1"));
        wait::until_true("the refusal on the overview", || page("/").contains("reports/sales → shop/db:5432"));
        let refused = page("/refused");
        assert!(refused.contains("/why?from=reports/sales&amp;to=shop/db&amp;port=5432"), "{refused}");
        let why = page("/why?from=reports/sales&to=shop/db&port=5432");
        assert!(why.contains("✖</span> deny") && why.contains("trust"), "{why}");
        let why = page("/why?from=no/such&to=shop/db&port=x");
        assert!(why.starts_with("HTTP/1.1 200") && why.contains("role=\"alert\""), "{why}");
        for (path, shown) in
            [("/services", "shop/db"), ("/runners", "gcp"), ("/audit", "apply"), ("/console.css", "--back")]
        {
            assert!(page(path).contains(shown), "{path}");
        }

        let address = format!("{origin}/");
        let with = |flags: &[&str]| console.get(&address, &[&["-b", &cookie], flags].concat());
        assert!(with(&["-H", "Host: evil.example"]).starts_with("HTTP/1.1 421"));
        let foreign = ["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: no-cors"];
        assert!(with(&foreign).starts_with("HTTP/1.1 403"));
        assert!(with(&["-X", "POST", "-d", "x=y"]).starts_with("HTTP/1.1 405"));
        assert!(with(&["-b", "mesh-1=x"]).starts_with("HTTP/1.1 401"));
        let port = origin.rsplit_once(':').expect("a port").1;
        let outside = coordinator.url(false).replace("https", "http").replace("7443", port);
        assert_ne!(console.curl(&outside, &[]).code, Some(0), "it listens on loopback only");
    });
}
