//! What the tests and `scripts/demo` run in namespaces: a TCP client, a TCP server, a UDP client, and an observer of the
//! underlay. There is nothing of mesh in it; curl, nc and tcpdump would do as well, but need not be there.

use std::{
    env,
    error::Error,
    io::{Read, Write, stdin, stdout},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use mesh_netns_tests::{Capture, Census};

const USAGE: &str = "usage: mesh-netns-helper connect PORT HOST…     prints each HOST, and what the server says there
       mesh-netns-helper serve PORT TEXT        sends TEXT to every caller
       mesh-netns-helper udp PORT HOST          sends a datagram on a connected socket, waits for what comes of it
       mesh-netns-helper observe TEXT           counts what passes this namespace, until standard input ends
A HOST that begins with `$` is the name of a variable that holds the host.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["connect", port, ref hosts @ ..] => hosts.iter().try_for_each(|host| connect(host, port)),
        ["serve", port, text] => serve(port, text),
        ["udp", port, host] => udp(host, port),
        ["observe", text] => observe(text),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn connect(host: &str, port: &str) -> Result {
    let name = resolve_variable(host)?;
    // By way of the hosts file, like any program: getaddrinfo(3).
    let mut addresses = (name.as_str(), port.parse()?).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
    let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
    let mut stream = TcpStream::connect(address).map_err(|e| format!("{host} ({address}): {e}"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(writeln!(stdout(), "{host} {text}")?)
}

fn resolve_variable(host: &str) -> Result<String> {
    match host.strip_prefix('$') {
        Some(variable) => env::var(variable).map_err(|e| format!("{variable}: {e}").into()),
        None => Ok(host.to_owned()),
    }
}

fn serve(port: &str, text: &str) -> Result {
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?))?;
    println!("listening");
    for stream in listener.incoming() {
        stream?.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn udp(host: &str, port: &str) -> Result {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((resolve_variable(host)?.as_str(), port.parse()?))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(b"anybody there?")?;
    let mut buffer = [0; 100];
    let got = socket.recv(&mut buffer)?;
    Ok(stdout().write_all(&buffer[..got])?)
}

fn observe(text: &str) -> Result {
    let capture = Capture::here();
    println!("observing");
    stdin().read_to_end(&mut Vec::new())?;
    print!("{}", Census::take(&capture.frames(), ([100, 112, 0, 0].into(), 12), &[text.as_bytes()]));
    Ok(())
}
