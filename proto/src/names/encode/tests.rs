use HostNameError::{Empty, Idna, LeadingHyphen, TooLong};
use proptest::prelude::*;

use super::*;

fn host(name: &str) -> Result<String, HostNameError> {
    host_label(&name.parse().unwrap())
}

/// The table of docs/reference/names-and-variables.md by row: name, host name, variable, shell variable (empty: the
/// same).
#[test]
fn the_table_of_the_contract() {
    for (name, host_name, variable_name, shell) in [
        ("my-db", "my-db.warp", "WARP_IST_my-db", "WARP_IST_my_db"),
        ("my db", "my-db.warp", "WARP_IST_my_db", ""),
        ("my=db", "my-db.warp", "WARP_IST_my_db", ""),
        ("my-db:dev", "my-db-dev.warp", "WARP_IST_my-db:dev", "WARP_IST_my_db_dev"),
        ("My-DB-", "my-db.warp", "WARP_IST_My-DB-", "WARP_IST_My_DB_"),
        ("mes-données", "xn--mes-donnes-i7a.warp", "WARP_IST_mes-donnees", "WARP_IST_mes_donnees"),
        ("✅ db", "xn---db-8g6a.warp", "WARP_IST__db-8g6a", "WARP_IST__db_8g6a"),
        ("我的数据", "xn--wnu53ab8bw85a.warp", "WARP_IST_wnu53ab8bw85a", ""),
    ] {
        assert_eq!(format!("{}.warp", host(name).unwrap()), host_name, "{name}");
        assert_eq!(format!("WARP_IST_{}", variable(name)), variable_name, "{name}");
        let shell = if shell.is_empty() { variable_name } else { shell };
        assert_eq!(format!("WARP_IST_{}", shell_variable(name)), shell, "{name}");
    }
}

/// Host names and Punycode agree with the WHATWG URL implementation of Node 20, except for `ẞ` (newer in Unicode
/// 15.1) and for labels that begin with a digit of a right-to-left script, which it allows against RFC 5893 §2.
#[test]
#[rustfmt::skip]
fn names_of_all_kinds() {
    let cases: &[(&str, Result<&str, HostNameError>, &str, &str)] = &[
        // plain ASCII
        ("db", Ok("db"), "db", "db"),
        ("DB", Ok("db"), "DB", "DB"),
        ("db_1", Ok("db-1"), "db_1", "db_1"),
        ("db ", Ok("db"), "db_", "db_"),
        ("a  b", Ok("a--b"), "a__b", "a__b"),
        ("a.b", Ok("a-b"), "a.b", "a_b"),
        ("a..b", Ok("a--b"), "a..b", "a__b"),
        ("my,db;dev", Ok("my-db-dev"), "my,db;dev", "my_db_dev"),
        ("db$(reboot)", Ok("db--reboot"), "db$(reboot)", "db__reboot_"),
        ("tab\\t", Ok("tab-t"), "tab\\t", "tab_t"),
        ("1", Ok("1"), "1", "1"),
        ("WARP_IST_x", Ok("warp-ist-x"), "WARP_IST_x", "WARP_IST_x"),
        ("localhost", Ok("localhost"), "localhost", "localhost"),
        ("api_my db", Ok("api-my-db"), "api_my_db", "api_my_db"),
        // composed and decomposed: NFC makes them the same
        ("données", Ok("xn--donnes-eva"), "donnees", "donnees"),
        ("donne\u{301}es", Ok("xn--donnes-eva"), "donnees", "donnees"),
        ("q\u{323}\u{307}", Ok("xn--q-9bb7f"), "q-9bb7f", "q_9bb7f"),
        ("q\u{307}\u{323}", Ok("xn--q-9bb7f"), "q-9bb7f", "q_9bb7f"),
        ("한", Ok("xn--6q8b"), "6q8b", "6q8b"),
        ("한", Ok("xn--6q8b"), "6q8b", "6q8b"),
        ("≠", Ok("xn--1ch"), "1ch", "1ch"),
        ("=\u{338}", Ok("xn--1ch"), "1ch", "1ch"),
        ("Ångström", Ok("xn--ngstrm-hua5l"), "Angstrom", "Angstrom"),
        // case, compatibility and width, as UTS 46 maps and Lucene folds them
        ("Ünïcode", Ok("xn--ncode-cta3g"), "Unicode", "Unicode"),
        ("straße", Ok("xn--strae-oqa"), "strasse", "strasse"),
        ("ẞ", Ok("xn--zca"), "SS", "SS"),
        ("faß.de", Ok("xn--fa-hia-de"), "fass.de", "fass_de"),
        ("œuvre", Ok("xn--uvre-f4a"), "oeuvre", "oeuvre"),
        ("ﬁle", Ok("file"), "file", "file"),
        ("ＤＢ", Ok("db"), "DB", "DB"),
        ("Ω", Ok("xn--bya"), "exa", "exa"),
        ("ΣΑΣ", Ok("xn--mxa9ab"), "pwa9ab", "pwa9ab"),
        ("İstanbul", Ok("xn--istanbul-o0e"), "Istanbul", "Istanbul"),
        ("ı", Ok("xn--cfa"), "i", "i"),
        ("𝒟ℬ", Ok("db"), "82gz262o", "82gz262o"),
        ("①", Ok("1"), "1", "1"),
        ("½", Ok("xn--12-c6t"), "0ba", "0ba"),
        ("my\u{a0}db", Ok("my-db"), "mydb-wea", "mydb_wea"),
        ("Ｍy\u{3000}db", Ok("my-db"), "Mydb-hw3c", "Mydb_hw3c"),
        ("a。b", Ok("a-b"), "ab-r13a", "ab_r13a"),
        ("my／db", Ok("my-db"), "my/db", "my_db"),
        ("a＝b", Ok("a-b"), "a_b", "a_b"),
        // what UTS 46 ignores
        ("d\u{ad}b", Ok("db"), "db-5da", "db_5da"),
        ("d\u{200b}b", Ok("db"), "db-g1t", "db_g1t"),
        ("\u{200b}", Err(Empty), "zug", "zug"),
        ("❤\u{fe0f} db", Ok("xn---db-3r6a"), "_db-3r6ar060j", "_db_3r6ar060j"),
        // scripts
        ("база", Ok("xn--80aabz"), "80aabz", "80aabz"),
        ("我的-db", Ok("xn---db-st5fr61g"), "-db-st5fr61g", "_db_st5fr61g"),
        ("a-b_我", Ok("xn--a-b--j75h"), "a-b_-j75h", "a_b__j75h"),
        ("é=è à", Ok("xn-----kia4ad"), "e_e_a", "e_e_a"),
        // emoji, with modifiers; those that need a joiner are refused by IDNA
        ("✅", Ok("xn--0bi"), "0bi", "0bi"),
        ("👍🏽", Ok("xn--on8h5e"), "on8h5e", "on8h5e"),
        ("🇫🇷", Ok("xn--j77hya"), "j77hya", "j77hya"),
        ("1\u{fe0f}⃣", Ok("xn--1-2sn"), "1-2sn3401h", "1_2sn3401h"),
        ("a🙂b🙂c", Ok("xn--abc-bp33bba"), "abc-bp33bba", "abc_bp33bba"),
        ("👩\u{200d}💻", Err(Idna), "1ug1855pcha", "1ug1855pcha"),
        ("👨\u{200d}👩\u{200d}👧 family", Err(Idna), "_family-g06ca49001jian", "_family_g06ca49001jian"),
        // joiners where their script wants them, and where not
        ("\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}", Ok("xn--mgbn2ecje63gr19l"), "mgbn2ecje63gr19l", "mgbn2ecje63gr19l"),
        ("क\u{94d}\u{200d}ष", Ok("xn--11b2ezcw70k"), "11b2ezcw70k", "11b2ezcw70k"),
        ("a\u{200c}b", Err(Idna), "ab-j1t", "ab_j1t"),
        // writing direction (RFC 5893)
        ("\u{5e9}\u{5dc}\u{5d5}\u{5dd}", Ok("xn--9dbne9b"), "9dbne9b", "9dbne9b"),
        ("\u{5d0}1", Ok("xn--1-zhc"), "1-zhc", "1_zhc"),
        ("db.\u{5d0}\u{5d1}", Ok("db-xn--4dbc"), "db.-spef", "db__spef"),
        ("\u{5e9}\u{5dc}\u{5d5}\u{5dd} db", Err(Idna), "_db-9pe8ah5f", "_db_9pe8ah5f"),
        ("db \u{5e9}\u{5dc}\u{5d5}\u{5dd}", Err(Idna), "db_-dqe8ah5f", "db__dqe8ah5f"),
        ("1\u{5d0}", Err(Idna), "1-0hc", "1_0hc"),
        ("\u{5d0}1\u{661}", Err(Idna), "1-zhc05b", "1_zhc05b"),
        ("\u{663}", Err(Idna), "cib", "cib"),
        ("db\u{202e}", Err(Idna), "db-h4t", "db_h4t"),
        // what is Punycode already, or claims to be
        ("xn--fa-hia", Ok("xn--fa-hia"), "xn--fa-hia", "xn__fa_hia"),
        ("XN--FA-HIA", Ok("xn--fa-hia"), "XN--FA-HIA", "XN__FA_HIA"),
        ("xn--zca", Ok("xn--zca"), "xn--zca", "xn__zca"),
        ("xn--ls8h", Ok("xn--ls8h"), "xn--ls8h", "xn__ls8h"),
        ("xn--", Err(Idna), "xn--", "xn__"),
        ("xn--a", Err(Idna), "xn--a", "xn__a"),
        ("xn--0", Err(Idna), "xn--0", "xn__0"),
        ("xn--abc-", Err(Idna), "xn--abc-", "xn__abc_"),
        ("xn--a.b", Err(Idna), "xn--a.b", "xn__a_b"),
        // characters that no domain name may hold
        ("\u{301}a", Err(Idna), "a-wbb", "a_wbb"),
        ("a\u{378}", Err(Idna), "a-qib", "a_qib"),
        ("\u{e000}", Err(Idna), "0y0c", "0y0c"),
        ("\u{fffd}", Err(Idna), "zn7c", "zn7c"),
        ("db\u{2028}x", Err(Idna), "dbx-iq0a", "dbx_iq0a"),
        // a leading `-`, or nothing left
        ("-db", Err(LeadingHyphen("-db".to_owned())), "-db", "_db"),
        (" db", Err(LeadingHyphen("-db".to_owned())), "_db", "_db"),
        ("_db", Err(LeadingHyphen("-db".to_owned())), "_db", "_db"),
        (".db", Err(LeadingHyphen("-db".to_owned())), ".db", "_db"),
        ("$(reboot)", Err(LeadingHyphen("--reboot".to_owned())), "$(reboot)", "__reboot_"),
        ("%41", Err(LeadingHyphen("-41".to_owned())), "%41", "_41"),
        ("-é", Ok("xn----bga"), "-e", "_e"),
        ("-", Err(Empty), "-", "_"),
        ("---", Err(Empty), "---", "___"),
        ("=", Err(Empty), "_", "_"),
        ("!", Err(Empty), "!", "_"),
        ("@#", Err(Empty), "@#", "__"),
    ];
    for (name, expected, plain, shell) in cases {
        assert_eq!(&host(name).as_deref().map_err(Clone::clone), expected, "{name:?}");
        assert_eq!((&*variable(name), &*shell_variable(name)), (*plain, *shell), "{name:?}");
    }
}

#[test]
fn a_host_name_has_at_most_63_octets() {
    let a = |n: usize| "a".repeat(n);
    assert_eq!(host(&a(63)), Ok(a(63)));
    assert_eq!(host(&format!("{}--", a(63))), Ok(a(63)), "counted without the trailing hyphens");
    assert_eq!(host(&a(64)), Err(TooLong(64)));
    assert_eq!(host(&format!("é{}", a(55))), Ok(format!("xn--{}-91e", a(55))), "counted in Punycode: 63");
    assert_eq!(host(&format!("é{}", a(56))), Err(TooLong(64)));
    assert_eq!(host(&"日本語".repeat(21)), Err(TooLong(79)), "63 characters, but not in Punycode");
    assert_eq!(host(&"\u{e9}".repeat(127)), Err(TooLong(133)));
    assert_eq!(variable(&a(255)), a(255), "a variable's name may be as long as it likes");
    let overflow = format!("{}\u{10ffff}", a(5000));
    assert_eq!(variable(&overflow), format!("{}_", a(5000)), "beyond what Punycode can count, and beyond any name");
}

#[test]
fn every_refusal_says_why() {
    for (name, why) in [
        (
            "xn--a",
            "IDNA refuses it: a broken `xn--` label, a mix of writing directions, or a character that no host name may hold",
        ),
        ("=", "it holds neither a letter nor a digit"),
        (" db", "its host name would be `-db`, with a leading `-`"),
        (&"a".repeat(64), "its host name would be 64 bytes long, and 63 is the most"),
    ] {
        assert_eq!(host(name).unwrap_err().to_string(), why);
    }
}

#[test]
fn identifiers_are_what_a_shell_takes() {
    for good in ["A", "_", "MY_SQL_SERVICE", "a1", "WARP_IST_1"] {
        assert!(is_identifier(good), "{good}");
    }
    for bad in ["", "1a", "a-b", "a b", "é", "a=b", "a\0", "$a"] {
        assert!(!is_identifier(bad), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_name_gives_a_label_or_a_reason(name in any_name()) {
        if let Ok(label) = host_label(&name) {
            prop_assert!((1..=63).contains(&label.len()));
            prop_assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
            prop_assert_eq!(super::super::check_host_name(&format!("{label}.warp")), Ok(()));
        }
    }

    #[test]
    fn any_text_gives_variables_that_an_environment_can_hold(name in any_name()) {
        let plain = variable(&name);
        prop_assert!(plain.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'='), "{plain:?}");
        let shell = format!("WARP_IST_{}", shell_variable(&name));
        prop_assert!(is_identifier(&shell), "{shell:?}");
        prop_assert_eq!(shell_variable(&plain), shell_variable(&name));
    }

    #[test]
    fn composition_never_matters(name in any_name()) {
        let (composed, decomposed) = (name.nfc().collect::<String>(), name.nfd().collect::<String>());
        prop_assert_eq!(variable(&composed), variable(&decomposed));
        if let (Ok(composed), Ok(decomposed)) = (composed.parse(), decomposed.parse()) {
            prop_assert_eq!(host_label(&composed), host_label(&decomposed));
        }
    }

    #[test]
    fn no_text_panics(name in "\\PC{0,400}") {
        let _ = (variable(&name), is_identifier(&name), super::super::check_host_name(&name).is_ok());
    }
}

/// Names in the scripts that most often cause trouble.
fn any_name() -> impl Strategy<Value = ServiceName> {
    let piece = prop_oneof![
        4 => "[ -.0-~]",
        1 => "xn--",
        1 => "[\\u{a0}-\\u{17f}]",
        1 => "[\\u{300}-\\u{36f}]",
        1 => "[\\u{590}-\\u{6ff}]",
        1 => "[\\u{900}-\\u{97f}]",
        1 => "[\\u{1f300}-\\u{1f6ff}\\u{fe0f}\\u{200b}-\\u{200f}]",
        1 => "[\\u{ff00}-\\u{ffef}]",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 1..24).prop_filter_map("no service's name", |pieces| pieces.concat().parse().ok())
}
