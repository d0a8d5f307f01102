//! A console, and what a browser does with it: it keeps the cookie, follows forms, and says which page asked.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use mesh_netns_tests::{Coordinator, Outcome, run};

/// A browser at a console.
pub(crate) struct Browser<'a> {
    coordinator: &'a Coordinator,
    pub(crate) origin: String,
    cookie: RefCell<String>,
    /// The console's process, if it is one of its own.
    process: Option<Child>,
    pub(crate) link: String,
}

impl<'a> Browser<'a> {
    /// Starts `mesh-coord console`; nothing is open yet.
    pub(crate) fn beside(coordinator: &'a Coordinator) -> Self {
        let mut command = coordinator.prepare(&["console"]);
        command.stdout(Stdio::piped());
        let mut process = command.spawn().expect("the console");
        let mut link = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut link).expect("the link");
        let link = link.trim().to_owned();
        let origin = link.split("/?").next().expect("an origin").to_owned();
        Self { coordinator, origin, cookie: RefCell::default(), process: Some(process), link }
    }

    /// At the console of `serve --console` at this address.
    pub(crate) fn at(coordinator: &'a Coordinator, origin: &str) -> Self {
        Self { coordinator, origin: origin.to_owned(), cookie: RefCell::default(), process: None, link: String::new() }
    }

    /// Follows the link.
    pub(crate) fn entered(self) -> Self {
        let answer = self.fetch(&self.link, &[]);
        assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /\r\n"), "{answer}");
        assert!(self.keep(&answer).contains("; HttpOnly; SameSite=Strict; Path=/"), "{answer}");
        self
    }

    /// Keeps the cookie of an answer, which has one.
    pub(crate) fn keep(&self, answer: &str) -> String {
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        self.cookie.replace(cookie.split(';').next().expect("a value").to_owned());
        cookie.to_owned()
    }

    pub(crate) fn cookie(&self) -> String {
        self.cookie.borrow().clone()
    }

    pub(crate) fn show(&self, cookie: &str) {
        self.cookie.replace(cookie.to_owned());
    }

    /// The answer to a request: status, headers and body.
    pub(crate) fn fetch(&self, url: &str, flags: &[&str]) -> String {
        self.curl(url, flags).done().stdout
    }

    pub(crate) fn curl(&self, url: &str, flags: &[&str]) -> Outcome {
        let mut command = self.coordinator.namespace().command("curl");
        command.args(["-sSk", "-i", "--max-time", "30"]).args(flags).arg(url);
        run(command)
    }

    /// A page, with these flags of curl's.
    pub(crate) fn with(&self, path: &str, flags: &[&str]) -> String {
        let cookie = self.cookie();
        self.fetch(&format!("{}{path}", self.origin), &[&["-b", &cookie], flags].concat())
    }

    pub(crate) fn page(&self, path: &str) -> String {
        self.with(path, &[])
    }

    /// What the forms of this session hold.
    pub(crate) fn proof(&self) -> String {
        let page = self.page("/act?do=drain-node&node=none");
        let (_, rest) = page.split_once("name=\"proof\" value=\"").unwrap_or_else(|| panic!("no form: {page}"));
        rest.split('"').next().expect("a value").to_owned()
    }

    /// Sends a form with flags and fields as they are.
    pub(crate) fn forge(&self, path: &str, flags: &[&str], fields: &[(&str, &str)]) -> String {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut all = flags.to_vec();
        for field in &fields {
            all.extend(["--data-urlencode", field]);
        }
        self.with(path, &all)
    }

    /// Sends a form as the console's own page does.
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let proof = self.proof();
        let fields = [&[("proof", &*proof)], fields].concat();
        self.forge(path, &["-H", "Sec-Fetch-Site: same-origin", "-H", "Sec-Fetch-Mode: navigate"], &fields)
    }

    /// Sends a form that has to be carried out, and looks at the page to which it leads.
    #[track_caller]
    pub(crate) fn act(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields);
        assert!(answer.starts_with("HTTP/1.1 303"), "{fields:?}: {answer}");
        let to = answer.lines().find_map(|line| line.strip_prefix("location: ")).expect("a location");
        self.page(to)
    }

    /// Signs in with a token.
    pub(crate) fn sign_in(&self, token: &str) -> String {
        self.forge("/sign-in", &["-H", "Sec-Fetch-Site: same-origin"], &[("token", token)])
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
