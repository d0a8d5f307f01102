//! A real etcd for tests, on loopback, with its data in a temporary directory.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{Access, EtcdStore, Place};
use crate::{data::scratch::Scratch, random};

/// A running etcd. It ends with this.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) data: Scratch,
    /// Where it takes clients.
    pub(crate) address: String,
}

/// The certificates of an etcd and of its clients, as files in its directory.
pub(crate) const CA: &str = "ca.pem";
pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const KEY: &str = "key.pem";

impl Etcd {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let data = Scratch::new();
        let (child, address) = first(data.path(), false, flags);
        Self { child, data, address }
    }

    /// One that is reached by TLS, by clients with a certificate of its authority. That of the server serves for both.
    pub(crate) fn start_secured() -> Self {
        let data = Scratch::new();
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signer = CertifiedIssuer::self_signed(params, authority).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &signer).unwrap();
        for (name, text) in [(CA, signer.as_ref().pem()), (CERTIFICATE, certificate.pem()), (KEY, key.serialize_pem())]
        {
            fs::write(data.path().join(name), text).unwrap();
        }
        let (child, address) = first(data.path(), true, &[]);
        Self { child, data, address }
    }

    /// Ends it without a chance to write anything, and starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.data.path(), &self.address, false, &[]).expect("its port is free");
    }

    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    pub(crate) fn place(&self) -> Place {
        format!("etcd://{}/mesh", self.address).parse().unwrap()
    }

    pub(crate) async fn open(&self) -> EtcdStore {
        EtcdStore::open(&self.place(), Access::default()).await.unwrap()
    }

    /// Ends all leases, as though their coordinators had stood still for longer.
    pub(crate) fn end_leases(&self) {
        let leases = self.ctl(&["lease", "list"]);
        for lease in leases.lines().filter(|line| line.len() == 16) {
            self.ctl(&["lease", "revoke", lease]);
        }
    }

    /// Runs etcdctl.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address])
            .args(arguments)
            .output()
            .expect("etcdctl: apt-get install etcd-client");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts one at a port that is none of those which the system chooses, so that it is free when it is started again.
fn first(data: &Path, secured: bool, flags: &[&str]) -> (Child, String) {
    let attempt = || {
        let address = format!("127.0.0.1:{}", 20_000 + random::number().unwrap() % 12_000);
        Some((spawn(data, &address, secured, flags)?, address))
    };
    std::iter::repeat_with(attempt).take(20).flatten().next().expect("a port")
}

/// Starts it and waits until it serves; `None` if it ends.
fn spawn(data: &Path, address: &str, secured: bool, flags: &[&str]) -> Option<Child> {
    let url = format!("{}://{address}", if secured { "https" } else { "http" });
    let peers = "http://127.0.0.1:0";
    let mut command = Command::new("etcd");
    if secured {
        let file = |name| data.join(name);
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file(CA));
        command.arg("--cert-file").arg(file(CERTIFICATE)).arg("--key-file").arg(file(KEY));
    }
    let mut child = command
        .args(flags)
        .args(["--name", "one", "--logger", "zap", "--log-outputs", "stderr"])
        .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers])
        .args(["--initial-cluster", &format!("one={peers}")])
        .arg("--data-dir")
        .arg(data.join("etcd"))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("etcd: apt-get install etcd-server");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serves = lines.by_ref().any(|line| line.is_ok_and(|line| line.contains("serving client traffic ")));
    if !serves {
        drop(child.wait());
        return None;
    }
    // A full pipe would hold it up.
    std::thread::spawn(move || lines.for_each(drop));
    Some(child)
}

/// What stands between a coordinator and an etcd.
pub(crate) struct Between {
    pub(crate) address: String,
    /// While this is set, requests arrive and answers don't.
    pub(crate) deaf: Arc<AtomicBool>,
}

impl Between {
    pub(crate) async fn start(etcd: &Etcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (deaf, to) = (Arc::<AtomicBool>::default(), etcd.address.clone());
        let is_deaf = Arc::clone(&deaf);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&to).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, Arc::default()));
                tokio::spawn(pass(from_server, to_client, Arc::clone(&is_deaf)));
            }
        });
        Self { address, deaf }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    drops: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !drops.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
