//! What other sites' pages, other names for this machine, and hostile names can do to a console: nothing.

use mesh_netns_tests::{World, isolated};

use crate::{
    browser::Browser,
    common::{REPORTS, SHOP, declare},
};

/// What would run if it became markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'<script>alert(2)</script>";
const GIVE: [(&str, &str); 3] = [("do", "give"), ("deployment", "shop"), ("caller", "reports")];
const OWN: [&str; 2] = ["-H", "Sec-Fetch-Site: same-origin"];

#[test]
fn forms_of_other_pages_change_nothing() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP, REPORTS]);
        let console = Browser::beside(&coordinator).entered();
        let proof = console.proof();
        let whole = [&[("proof", &*proof)], &GIVE[..]].concat();
        let foreign = format!("Origin: {}", console.origin.replace("127.0.0.1", "evil.example"));
        let refusals = [
            ("no proof", console.forge("/act", &OWN, &GIVE)),
            ("a wrong proof", console.forge("/act", &OWN, &[&[("proof", "x")], &GIVE[..]].concat())),
            ("another site", console.forge("/act", &["-H", "Sec-Fetch-Site: cross-site"], &whole)),
            ("another port", console.forge("/act", &["-H", "Sec-Fetch-Site: same-site"], &whole)),
            ("another origin", console.forge("/act", &["-H", &foreign], &whole)),
            ("an origin that is hidden", console.forge("/act", &["-H", "Origin: null"], &whole)),
            ("nothing shows where it is from", console.forge("/act", &[], &whole)),
            ("not a form", console.forge("/act", &[&OWN[..], &["-H", "Content-Type: text/plain"]].concat(), &whole)),
            ("another method", console.forge("/act", &[&OWN[..], &["-X", "PUT"]].concat(), &whole)),
            ("a token", console.forge("/tokens", &OWN, &[("scope", "any"), ("ttl", "1h"), ("uses", "1")])),
        ];
        for (what, answer) in refusals {
            assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 405"), "{what}: {answer}");
        }
        let large = "x".repeat(70 << 10);
        let answer = console.forge("/act", &OWN, &[&whole[..], &[("services", &*large)]].concat());
        assert!(answer.contains("HTTP/1.1 413"), "{}", &answer[..200]);
        assert!(!console.page("/d/shop").contains("reports may call shop"), "nothing has changed");
        let origin = format!("Origin: {}", console.origin);
        let answer = console.forge("/act", &["-H", &origin], &whole);
        assert!(answer.starts_with("HTTP/1.1 303"), "an old browser's form is taken: {answer}");
    });
}

#[test]
fn a_console_is_for_its_own_name_its_own_pages_and_one_session() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let console = Browser::beside(&coordinator).entered();
        assert!(console.with("/", &["-H", "Host: evil.example"]).starts_with("HTTP/1.1 421"));
        let foreign = ["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: no-cors"];
        assert!(console.with("/", &foreign).starts_with("HTTP/1.1 403"));
        for path in
            ["/", "/map", "/d/shop", "/d/none", "/act?do=x", "/tokens", "/sign-in", "/nothing/there", "/console.css"]
        {
            let page = console.page(path);
            for header in ["frame-ancestors 'none'", "x-frame-options: DENY", "cache-control: no-store", "nosniff"] {
                assert!(page.contains(header), "{path}: {header}: {page}");
            }
        }
        let good = console.cookie();
        let name = good.split('=').next().expect("a name");
        for cookie in ["", "mesh-1=x", &format!("{name}=x"), &format!("{name}="), &format!("x{good}")] {
            console.show(cookie);
            let answer = console.page("/");
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("whole"), "{cookie}: {answer}");
        }
        // Not even what is remembered helps: another console of the same coordinator has another session.
        let other = Browser::beside(&coordinator).entered();
        other.show(&good);
        assert!(other.page("/").starts_with("HTTP/1.1 401"));
    });
}

#[test]
fn names_that_others_choose_never_become_markup() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        coordinator.command(&["token", "create", "--any", "--name", HOSTILE]).done();
        let file = coordinator.file("x", "deployment = \"late\"\ntrust = [\"shop\"]\n[services.a]\n");
        let named = std::path::Path::new(&file).with_file_name("<script>alert(3)<.toml");
        std::fs::copy(&file, &named).expect("a file");
        coordinator.command(&["apply", named.to_str().expect("its name")]).done();
        let console = Browser::beside(&coordinator).entered();
        let asked = "from=%3Cscript%3Ealert(4)%3C/script%3E&to=%22%3E%3Cimg%20src=x%3E&port=1";
        let pages = [
            "/",
            "/map",
            "/deployments",
            "/d/late",
            "/services",
            "/runners?text=%22%3E%3Cscript%3Ealert(5)",
            "/refused",
            "/audit",
            "/tokens",
            "/relays",
            "/d/%3Cscript%3Ealert(6)%3C%2Fscript%3E",
            "/r/%22%3E%3Cscript%3Ealert(7)",
            "/act?do=give&deployment=%22%3E%3Cscript%3E&caller=%3Cscript%3Ealert(8)",
            "/act?do=%3Cscript%3Ealert(9)",
        ];
        for path in pages.into_iter().map(ToOwned::to_owned).chain([format!("/why?{asked}")]) {
            let page = console.page(&path);
            assert!(
                !page.contains("<img") && !page.contains("<script>") && page.matches("<script").count() <= 1,
                "{path}: {page}"
            );
        }
        assert!(console.page("/tokens").contains("&lt;img src=x onerror=alert(1)&gt;"));
        assert!(console.page("/d/late").contains("&lt;script&gt;alert(3)"));
    });
}
