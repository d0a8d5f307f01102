//! What isn't a TURN server. Real ones are tried in `netns-tests`.

use super::*;

fn secret() -> RelaySecret {
    "north".parse().unwrap()
}

fn by_udp(place: &str) -> RelayPublic {
    RelayPublic { udp: vec![place.parse().unwrap()], tcp: vec![], tls: vec![], fingerprint: None }
}

async fn fails(socket: &tokio::net::UdpSocket) -> Failed {
    let place = socket.local_addr().unwrap().to_string();
    run(&by_udp(&place), &secret()).await.unwrap_err()
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_told() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    drop(socket);
    let failed = run(&by_udp(&at.to_string()), &secret()).await.unwrap_err();
    assert!(matches!(&failed, Failed::NotTurn { why, .. } if why.contains("refused")), "{failed}");
    assert!(failed.hint().contains("--turn HOST:3478"));
}

/// It answers every request with what `answer` makes of it.
async fn server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> tokio::net::UdpSocket {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listener = tokio::net::UdpSocket::from_std(socket.into_std().unwrap()).unwrap();
    let shown = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(nix_clone(&listener))).unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = listener.recv_from(&mut bytes).await {
            let _ = listener.send_to(&answer(&bytes[..length]), from).await;
        }
    });
    shown
}

fn nix_clone(socket: &tokio::net::UdpSocket) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd as _;
    socket.as_fd().try_clone_to_owned().unwrap()
}

/// An error response with a code, to the request.
fn error(request: &[u8], code: u8, more: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0, 9, 0, 4, 0, 0, code / 100, code % 100];
    attributes.extend_from_slice(more);
    let length = u8::try_from(attributes.len()).unwrap();
    let mut answer = vec![1, 0x13, 0, length];
    answer.extend_from_slice(&request[4..20]);
    answer.extend_from_slice(&attributes);
    answer
}

/// REALM `mesh` and NONCE `none`.
const CHALLENGE: &[u8] = b"\0\x14\0\x04mesh\0\x15\0\x04none";

#[tokio::test]
async fn another_secret_is_told() {
    let at = server(|request| {
        // 401 whatever comes.
        let mut answer = error(request, 101, CHALLENGE);
        answer[26] = 4;
        answer[27] = 1;
        answer
    })
    .await;
    let failed = fails(&at).await;
    assert!(matches!(failed, Failed::Secret { .. }), "{failed}");
    assert!(failed.hint().contains("static-auth-secret"));
}

#[tokio::test]
async fn a_request_to_a_stranger_is_as_long_as_its_answer() {
    let at = server(|request| {
        assert!(request.len() >= 64, "{}", request.len());
        b"hello".to_vec()
    })
    .await;
    // What is no answer is not taken for one.
    let failed = fails(&at).await;
    assert!(matches!(failed, Failed::Silent { .. }), "{failed}");
}

#[tokio::test]
async fn a_server_of_another_protocol_and_a_closed_port_of_tcp_are_told() {
    let by_tcp =
        |place: &str| RelayPublic { udp: vec![], tcp: vec![place.parse().unwrap()], tls: vec![], fingerprint: None };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let web = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = [0; 20];
        tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut request).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let failed = run(&by_tcp(&place), &secret()).await.unwrap_err();
    assert!(matches!(&failed, Failed::NotTurn { why, .. } if why.contains("no STUN message")), "{failed}");
    web.await.unwrap();
    let failed = run(&by_tcp(&place), &secret()).await.unwrap_err();
    assert!(matches!(&failed, Failed::NotReached { .. }), "{failed}");
    assert!(failed.hint().contains("let TCP through"), "{}", failed.hint());
    let no_key = RelayPublic { tls: vec![place.parse().unwrap()], tcp: vec![], udp: vec![], fingerprint: None };
    assert!(matches!(run(&no_key, &secret()).await, Err(Failed::NoKey { .. })));
}
