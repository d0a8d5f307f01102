//! The console: pages of a mesh at work, for the browser that has followed the link, and for nothing else.

use mesh_netns_tests::{Stack, World, isolated, traffic::Answer, wait};

use crate::{
    browser::Browser,
    common::{REPORTS, SHOP, declare},
};

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

        let console = Browser::beside(&coordinator);
        let origin = console.origin.clone();
        let stranger = console.page("/");
        assert!(stranger.starts_with("HTTP/1.1 401") && !stranger.contains("shop"), "{stranger}");
        let console = console.entered();
        let again = console.fetch(&console.link, &[]);
        assert!(again.starts_with("HTTP/1.1 401"), "the link works once: {again}");
        let page = |path: &str| console.page(path);

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
        for (path, shown) in [
            ("/deployments", "reports"),
            ("/d/shop", "Who may call shop"),
            ("/d/shop/db", "═ 1 open"),
            ("/services", "shop/db"),
            ("/runners", "gcp"),
            ("/runners?text=aw&state=online", ", page 1 of 1"),
            ("/r/gcp", "tun-gso"),
            ("/tokens", "join"),
            ("/relays", "Relays, 0"),
            ("/audit", "apply"),
            ("/console.css", "--back"),
        ] {
            assert!(page(path).contains(shown), "{path}");
        }

        let port = origin.rsplit_once(':').expect("a port").1;
        let outside = coordinator.url(false).replace("https", "http").replace("7443", port);
        assert_ne!(console.curl(&outside, &[]).code, Some(0), "it listens on loopback only");
    });
}
