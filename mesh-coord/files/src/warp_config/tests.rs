use std::path::Path;

use proptest::prelude::*;

use super::*;

type Services = Vec<(String, Declared)>;

/// The declared services and the warnings.
fn read(text: &str) -> std::result::Result<(Services, Vec<String>), String> {
    let shop: Label = "shop".parse().unwrap();
    let parsed = super::super::parse(Path::new("warp.config.js"), text, Some(&shop)).map_err(|e| e.to_string())?;
    let services = parsed.declarations.into_iter().map(|declaration| match declaration {
        Declaration::Single { deployment, name, service } if deployment == shop => (name.to_string(), service),
        other => panic!("{other:?}"),
    });
    Ok((services.collect(), parsed.warnings))
}

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(read(text), Err(message.to_owned()), "{text}");
}

/// A single service without warnings.
#[track_caller]
fn service(text: &str) -> (String, Declared) {
    let (mut services, warnings) = read(text).unwrap();
    assert_eq!((services.len(), warnings.len()), (1, 0), "{services:?} {warnings:?}");
    services.remove(0)
}

#[test]
fn a_service_with_all_that_counts() {
    let (name, declared) = service(
        r#"
        "use strict";
        // The shop's front.
        module.exports = {
          container: "my app",
          ist: [
            { service: "my db", variables: ["MY_SQL_SERVICE", 'ANOTHER_VAR'], hostnames: [`mysql.local`] },
            { "service": "cache" },
          ],
          deployment: { port: 65500 },
        };
        "#,
    );
    let ist = |service: &str, variables: &[&str], hostnames: &[&str]| Ist {
        service: service.parse().unwrap(),
        variables: variables.iter().map(ToString::to_string).collect(),
        hostnames: hostnames.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(name, "my app");
    assert_eq!(
        declared,
        Declared {
            public_port: Some(65500),
            ist: vec![ist("my db", &["MY_SQL_SERVICE", "ANOTHER_VAR"], &["mysql.local"]), ist("cache", &[], &[])],
            ..Declared::default()
        }
    );
}

#[test]
fn the_name_may_be_written_in_several_ways() {
    for text in [
        "module.exports = { docker: 'db' }",
        "module.exports = ({ container: ('db') });",
        "module.exports = [{ 'container': `db` }]",
        "module.exports={container:'\\x64\\u{62}'};;",
        "#!/usr/bin/env node\nmodule.exports = { container: 'db' /* not 'app' */ }",
        "\u{feff}module.exports = { container: 'db' }",
    ] {
        assert_eq!(service(text), ("db".to_owned(), Declared::default()), "{text}");
    }
    assert_eq!(service("module.exports = { docker: '✅ db' }").0, "✅ db");
}

#[test]
fn an_array_declares_several() {
    let (services, _) =
        read("module.exports = [{ container: 'a' }, { docker: 'b', deployment: { port: 0x50 } }]").unwrap();
    assert_eq!(services[0], ("a".to_owned(), Declared::default()));
    assert_eq!(services[1], ("b".to_owned(), Declared { public_port: Some(80), ..Declared::default() }));
    refused("module.exports = []", "warp.config.js:1: `module.exports` is empty: it declares no service");
    refused(
        "module.exports = [\n{ container: 'a' },\n{ docker: 'a' }]",
        "warp.config.js:3: the service `a` is declared twice",
    );
}

#[test]
fn other_keys_pass_with_a_warning() {
    let (services, warnings) = read(
        "module.exports = {
          container: 'web',
          build: { context: '.', include: /.*[/]/, exclude: [/.git/, null, , true, 1n, -1] },
          variables: { A: 'x', B: { local: true } },
          deployment: { baseUrl: { id: 'web' }, port: 3000 },
        }",
    )
    .unwrap();
    assert_eq!(services, [("web".to_owned(), Declared { public_port: Some(3000), ..Declared::default() })]);
    assert_eq!(
        warnings,
        [
            "warp.config.js:3: `build` means nothing to mesh",
            "warp.config.js:4: `variables` means nothing to mesh",
            "warp.config.js:5: `deployment.baseUrl` means nothing to mesh",
        ]
    );
}

#[test]
fn what_would_need_javascript_to_run_is_refused_with_its_line_and_a_hint() {
    let runs = "would need JavaScript to run, and this file is only read: write the value itself";
    for (value, what) in [
        ("NAME", "the name `NAME`"),
        ("undefined", "the name `undefined`"),
        ("process.env.NAME", "a look-up"),
        ("a['b']", "a look-up"),
        ("a?.b", "a look-up"),
        ("require('x')", "a call"),
        ("new Name()", "a call"),
        ("import('x')", "a call"),
        ("() => 'a'", "a function"),
        ("function () {}", "a function"),
        ("'a' + 'b'", "this expression"),
        ("a ? 'b' : 'c'", "this expression"),
        ("'a' || 'b'", "this expression"),
        ("tag`a`", "this expression"),
        ("(0, 'a')", "this expression"),
        ("`a${1}`", "a template with `${…}`"),
        ("!0", "an operator"),
        ("typeof a", "an operator"),
        ("-'1'", "an operator"),
        ("4 / 2", "a division"),
        ("1 < 2", "`<`"),
        ("[...names]", "a spread (`...`)"),
        ("{ ...a }", "a spread (`...`)"),
        ("{ [a]: 1 }", "a computed key"),
        ("{ ['a']: 1 }", "a computed key"),
        ("{ a() {} }", "a function"),
        ("{ get a() { return 1 } }", "a function"),
        ("{ a }", "the name `a`"),
        ("{ __proto__: { container: 'x' } }", "`__proto__`"),
    ] {
        // In a key that counts, and in one that is ignored: the whole file must be a literal.
        for key in ["container", "build"] {
            let text = format!("module.exports = {{\n  docker: 'a',\n  {key}:\n{value} }}");
            let text = text.replace("docker: 'a',\n  container", "container");
            let line = text.lines().count();
            refused(&text, &format!("warp.config.js:{line}: {what} {runs}"));
        }
    }
    for statement in
        ["const name = 'a';", "require('x');", "module.exports.container = 'b';", "exports = {};", "if (1) {}", "{}"]
    {
        refused(
            &format!("module.exports = {{ container: 'a' }};\n{statement}"),
            &format!("warp.config.js:2: a statement other than `module.exports = …` {runs}"),
        );
    }
}

#[test]
fn what_exports_nothing_or_otherwise_is_refused() {
    for (text, message) in [
        ("", "warp.config.js:1: sets no `module.exports`: write `module.exports = { container: \"NAME\" }`"),
        ("export default { container: 'a' }", "warp.config.js:1: this exports by `export`: write `module.exports = …`"),
        (
            "module.exports = 'a'",
            "warp.config.js:1: `module.exports` is a string: expected an object, or an array of them",
        ),
        ("module.exports = ['a']", "warp.config.js:1: `module.exports` holds a string: expected objects"),
        (
            "module.exports = { container: 'a' }\nmodule.exports = { container: 'b' }",
            "warp.config.js:2: `module.exports` is set twice: keep one",
        ),
        (
            "module.exports = {\n build: 1 }",
            "warp.config.js:1: this object names no service: give it `container` (or `docker`)",
        ),
        (
            "module.exports = { container: 'a',\n docker: 'a' }",
            "warp.config.js:2: both `container` and `docker` are given: they mean the same, keep one",
        ),
        (
            "module.exports = { container: 'a',\n container: 'b' }",
            "warp.config.js:2: the key `container` is given twice",
        ),
    ] {
        refused(text, message);
    }
    assert!(read("module.exports = {\n container: 'a'").unwrap_err().starts_with("warp.config.js:2: not JavaScript: "));
    let without = super::super::parse(Path::new("warp.config.js"), "module.exports = { container: 'a' }", None);
    assert_eq!(
        without.unwrap_err().to_string(),
        "warp.config.js: doesn't name its deployment: give it with --deployment NAME"
    );
}

#[test]
fn values_are_checked_where_they_stand() {
    for (lines, message) in [
        ("container: 7", "`container` is a number: expected a string"),
        ("docker: null", "`docker` is null: expected a string"),
        ("container: ''", "`container`: a service's name cannot be empty"),
        (
            "container: 'a/b'",
            "`container`: the service name `a/b` holds '/': `/` and control characters are not allowed",
        ),
        ("container: '\\ud800'", "half of a surrogate pair is no text"),
        ("docker: 'a', ist: {}", "`ist` is an object: expected an array"),
        ("docker: 'a', ist: ['db']", "`ist` holds a string: expected objects"),
        ("docker: 'a', ist: [,]", "`ist` holds nothing: expected objects"),
        ("docker: 'a', ist: [{}]", "an entry of `ist` has no `service`: say which one it leads to"),
        ("docker: 'a', ist: [{ service: 1 }]", "`service` is a number: expected a string"),
        (
            "docker: 'a', ist: [{ service: 'b', hostname: [] }]",
            "an entry of `ist` has no key `hostname`: the nearest one is `hostnames`",
        ),
        ("docker: 'a', ist: [{ service: 'b', variables: 'X' }]", "`variables` is a string: expected an array"),
        ("docker: 'a', ist: [{ service: 'b', variables: [1] }]", "`variables` is a number: expected a string"),
        (
            "docker: 'a', ist: [{ service: 'b', variables: ['A B'] }]",
            "`variables`: `A B` is not a variable's name: use letters, digits and `_`, with no digit first",
        ),
        (
            "docker: 'a', ist: [{ service: 'b', hostnames: ['localhost'] }]",
            "`hostnames`: `localhost` always means the machine itself: choose another name",
        ),
        ("docker: 'a', deployment: 1", "`deployment` is a number: expected an object"),
        ("docker: 'a', deployment: { port: '80' }", "`deployment.port` is a string: expected a port, 1 to 65535"),
        ("docker: 'a', deployment: { port: 0 }", "`deployment.port` is 0: expected a port, 1 to 65535"),
        ("docker: 'a', deployment: { port: -1 }", "`deployment.port` is -1: expected a port, 1 to 65535"),
        ("docker: 'a', deployment: { port: 80.5 }", "`deployment.port` is 80.5: expected a port, 1 to 65535"),
        ("docker: 'a', deployment: { port: 65536 }", "`deployment.port` is 65536: expected a port, 1 to 65535"),
        ("docker: 'a', deployment: { port: 1e999 }", "`deployment.port` is inf: expected a port, 1 to 65535"),
    ] {
        refused(&format!("module.exports = {{\n\n{lines} }}"), &format!("warp.config.js:3: {message}"));
    }
}

#[test]
fn nothing_makes_the_parser_overflow_its_stack_or_take_for_ever() {
    for piece in [
        "(",
        "[",
        "{a:",
        "(a=",
        "({a=",
        "!",
        "- ",
        "a=>",
        "async a=>",
        "a?",
        "a?b:",
        "a=",
        "`${",
        "new ",
        "x:",
        "do ",
        "if(1)",
        "(/*)*/",
        "/a",
    ] {
        for before in ["", "module.exports = "] {
            let text = format!("{before}{}", piece.repeat((MAX - before.len()) / piece.len()));
            assert!(read(&text).is_err(), "{before}{piece}…");
        }
    }
    let many: String = (0..5000).map(|n| format!("k{n}:1,")).collect();
    assert_eq!(read(&format!("module.exports = {{ container: 'a', b: {{ {many} }} }}")).unwrap().1.len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = (read(&text), read(&format!("module.exports = {text}")));
    }

    /// Random sequences of parts of scripts.
    #[test]
    fn no_script_makes_the_parser_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("module.exports = "), Just("{ "), Just("} "), Just("[ "), Just("] "), Just("( "), Just(") "), Just(", "), Just("container: "),
        Just("ist: "), Just("service: "), Just("deployment: "), Just("port: "), Just("'db' "), Just("`a` "), Just("/x/ "), Just("80 "),
        Just("... "), Just("=> "), Just("= "), Just("a "), Just("\\u{62} "), Just("// é\n"), Just("/* "), Just("*/ "), Just("\u{2028}"),
        Just("'"), Just("async "), Just("class "), Just("?."), Just("#a "), Just("1e5 "), Just("0b1n "),
    ], 0..24)) {
        let text = pieces.concat();
        let _ = (read(&text), read(&format!("module.exports = {{ container: 'a', {text}")));
    }
}
