use std::sync::Arc;

use hickory_proto::rr::Name;
use mesh_proto::InstanceId;

use super::*;
use crate::testing::{WEB, ask, question, shop};

fn directory() -> Directory {
    Directory::of(&Arc::new(shop()), None)
}

fn by(transport: Transport, question: &[u8]) -> Option<Vec<u8>> {
    answer(question, &directory(), WEB, transport)
}

fn reply(question: &Message) -> Message {
    Message::from_vec(&by(Transport::Udp, &question.to_vec().unwrap()).unwrap()).unwrap()
}

#[test]
fn every_name_of_the_hosts_file_has_its_address() {
    let view = shop();
    for (address, name) in mesh_proto::names::hosts(&view, mesh_proto::ServiceId(1)).unwrap() {
        assert_eq!(ask(&view, &name, RecordType::A), address.to_string(), "{name}");
    }
    assert_eq!(ask(&view, "MY-db.ShOp.WARP", RecordType::A), "100.112.0.2");
    assert_eq!(ask(&view, "mysql.LOCAL", RecordType::ANY), "100.112.0.2");
    assert_eq!(ask(&view, "grpc.api.warp", RecordType::A), "100.112.0.4");
}

#[test]
fn a_name_is_there_for_every_type_and_only_the_right_one_has_records() {
    let view = shop();
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::HTTPS, RecordType::SRV] {
        assert_eq!(ask(&view, "my-db.warp", kind), "(warp. SOA 5)", "{kind}");
        assert_eq!(ask(&view, "all.my-db.warp", kind), "(warp. SOA 5)", "{kind}");
    }
    assert_eq!(ask(&view, "my-db", RecordType::AAAA), "(my-db. SOA 5)", "a short name is a zone of its own");
    // Names between others are there as well (RFC 8020).
    for between in ["shop.warp", "api.warp", "_tcp.my-db.warp", "old.warp", "dns.warp"] {
        assert_eq!(ask(&view, between, RecordType::A), "(warp. SOA 5)", "{between}");
    }
}

#[test]
fn what_may_not_be_called_is_not_there() {
    let view = shop();
    for name in [
        "vault.bank.warp",
        "vault.warp",
        "bank.warp",
        "all.vault.bank.warp",
        "i-7.warp",
        "i-07.warp",
        "i-1.shop.warp",
        "x.my-db.warp",
        "a\\.b.warp",
        "_port._tcp.web.warp",
        "_tcp.web.warp",
        "_port._udp.my-db.warp",
        "all.all.my-db.warp",
        "all.warp",
    ] {
        assert_eq!(ask(&view, name, RecordType::A), "NXDomain (warp. SOA 5)", "{name}");
    }
    for name in ["7.0.127.100.in-addr.arpa", "5.0.112.100.in-addr.arpa", "9.9.112.100.in-addr.arpa"] {
        let zone = name.split_once('.').unwrap().1.split_once('.').unwrap().1;
        assert_eq!(ask(&view, name, RecordType::PTR), format!("NXDomain ({zone}. SOA 5)"), "{name}");
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let view = shop();
    for name in [
        ".",
        "com",
        "example.com",
        "warp.com",
        "mywarp",
        "x.my-db",
        "vault.bank",
        "all.app",
        "_port._tcp.app",
        "all.mysql.local",
        "1.1.1.1.in-addr.arpa",
        "100.in-addr.arpa",
        "96.100.in-addr.arpa",
        "in-addr.arpa",
        "x.arpa",
        "1.0.0.ip6.arpa",
    ] {
        assert_eq!(ask(&view, name, RecordType::A), "Refused", "{name}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(ask(&view, "warp", kind), "Refused");
    }
}

#[test]
fn all_instances_are_found_at_once_the_nearest_first() {
    let view = shop();
    for name in ["all.my-db.warp", "all.my-db.shop.warp", "all.my-db", "all.store.old.warp", "ALL.my-db.warp"] {
        assert_eq!(ask(&view, name, RecordType::A), "100.127.0.4 100.127.0.3 100.127.0.2", "{name}");
    }
    assert_eq!(ask(&view, "all.grpc.api.warp", RecordType::A), "100.127.0.6");
    assert_eq!(ask(&view, "all.app.warp", RecordType::A), "(warp. SOA 5)", "it has none");
}

#[test]
fn an_instance_an_address_and_a_port_have_names() {
    let view = shop();
    assert_eq!(ask(&view, "i-5.warp", RecordType::A), "100.127.0.5");
    assert_eq!(ask(&view, "i-6.warp", RecordType::A), "100.127.0.6");
    for (of, name) in [
        ("2.0.112.100", "my-db.shop.warp."),
        ("4.0.112.100", "grpc.api.warp."),
        ("6.0.127.100", "i-6.warp."),
        ("254.255.127.100", "ns.dns.warp."),
    ] {
        assert_eq!(ask(&view, &format!("{of}.in-addr.arpa"), RecordType::PTR), name);
    }
    assert_eq!(ask(&view, "2.0.112.100.in-addr.arpa", RecordType::A), "(112.100.in-addr.arpa. SOA 5)");
    for between in ["112.100.in-addr.arpa", "0.112.100.in-addr.arpa"] {
        assert_eq!(ask(&view, between, RecordType::PTR), "(112.100.in-addr.arpa. SOA 5)", "{between}");
    }
    assert_eq!(ask(&view, "x.112.100.in-addr.arpa", RecordType::PTR), "NXDomain (112.100.in-addr.arpa. SOA 5)");
    assert_eq!(ask(&view, "ns.dns.warp", RecordType::A), "100.127.255.254");
    let service = "0 1 5432 my-db.shop.warp. +my-db.shop.warp. 100.112.0.2";
    assert_eq!(ask(&view, "_port._tcp.my-db.warp", RecordType::SRV), service);
    assert_eq!(ask(&view, "_port._tcp.store.old", RecordType::SRV), service);
    assert_eq!(
        ask(&view, "_port._tcp.all.my-db.warp", RecordType::SRV),
        "0 1 5432 i-4.warp. 0 1 5432 i-3.warp. 0 1 5432 i-2.warp. \
         +i-4.warp. 100.127.0.4 +i-3.warp. 100.127.0.3 +i-2.warp. 100.127.0.2"
    );
}

#[test]
fn the_top_has_its_own_records() {
    let view = shop();
    assert_eq!(ask(&view, "warp", RecordType::NS), "ns.dns.warp.");
    assert_eq!(ask(&view, "warp", RecordType::SOA), "ns.dns.warp. hostmaster.warp. 7 5 5 5 5");
    assert_eq!(ask(&view, "warp", RecordType::A), "(warp. SOA 5)");
}

#[test]
fn a_name_of_the_table_is_not_covered_by_the_others() {
    let mut view = shop();
    crate::testing::service(&mut view, 1, 30, "i-1");
    crate::testing::service(&mut view, 2, 31, "ns");
    crate::testing::grant(&mut view, 31);
    assert_eq!(ask(&view, "i-1.warp", RecordType::A), "100.112.0.30");
    assert_eq!(ask(&view, "ns.dns.warp", RecordType::A), "100.127.255.254");
    assert_eq!(ask(&view, "all.i-1.warp", RecordType::A), "(warp. SOA 5)");
}

#[test]
fn an_answer_spells_the_name_as_the_question_does() {
    let asked = question("mY-Db.wArP", RecordType::A);
    let reply = reply(&asked);
    assert!(reply.queries[0].name().eq_case(asked.queries[0].name()));
    assert!(reply.answers[0].name.eq_case(asked.queries[0].name()));
    assert!(reply.metadata.recursion_desired && !reply.metadata.recursion_available);
    assert!(reply.edns.is_none());
}

#[test]
fn edns_is_answered_in_kind() {
    let mut asked = question("my-db.warp", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    asked.set_edns(edns.clone());
    let good = reply(&asked);
    let answered = good.edns.clone().unwrap();
    assert_eq!((answered.version(), answered.max_payload(), answered.flags().dnssec_ok), (0, 1232, true));
    assert!(answered.options().as_ref().is_empty());
    assert_eq!((good.response_code, good.answers.len()), (ResponseCode::NoError, 1));

    asked.set_edns(edns.set_version(1).clone());
    let bad = reply(&asked);
    assert_eq!((u16::from(bad.response_code), bad.answers.len()), (16, 0), "BADVERS");
    assert_eq!(bad.edns.unwrap().version(), 0);
}

/// A cookie, padding, an option that has no name, and a client subnet that makes no sense (RFC 6891 §6.1.2).
#[test]
fn options_that_are_not_known_are_ignored() {
    let mut asked = question("my-db.warp", RecordType::A).to_vec().unwrap();
    asked[11] = 1;
    let options = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 12, 0, 2, 0, 0, 0xfd, 0xe9, 0, 1, 9];
    asked.extend([0, 0, 41, 2, 0, 0, 0, 0, 0, 0, options.len() as u8]);
    asked.extend(options);
    let reply = Message::from_vec(&by(Transport::Udp, &asked).unwrap()).unwrap();
    assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
    assert!(reply.edns.unwrap().options().as_ref().is_empty());
}

#[test]
fn what_does_not_fit_is_truncated_and_whole_by_tcp() {
    let mut view = shop();
    for id in 100..356 {
        crate::testing::instance(&mut view, id, 3, 2, mesh_proto::view::InstanceState::Live);
    }
    let directory = Directory::of(&Arc::new(view), None);
    let mut asked = question("all.app.warp", RecordType::A);
    for (payload, longest) in [(None, 512), (Some(100), 512), (Some(4096), 1232), (Some(65535), 1232)] {
        asked.edns = payload.map(|payload| Edns::new().set_max_payload(payload).clone());
        let bytes = answer(&asked.to_vec().unwrap(), &directory, WEB, Transport::Udp).unwrap();
        let short = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= longest && short.metadata.truncation && short.answers.is_empty(), "{payload:?}");
        assert_eq!(short.edns.is_some(), payload.is_some());
    }
    let whole = answer(&asked.to_vec().unwrap(), &directory, WEB, Transport::Tcp).unwrap();
    assert!(whole.len() < 8000, "{}", whole.len());
    let whole = Message::from_vec(&whole).unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (256, false));
}

#[test]
fn what_is_no_question_of_one_name_gets_the_right_code() {
    let good = question("my-db.warp", RecordType::A);
    let mut none = good.clone();
    none.queries.clear();
    let mut two = good.clone();
    two.queries.push(two.queries[0].clone());
    for odd in [none, two] {
        assert_eq!(reply(&odd).response_code, ResponseCode::FormErr);
    }
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(reply(&chaos).response_code, ResponseCode::Refused);
    let mut status = good.clone();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(reply(&status).response_code, ResponseCode::NotImp);
    let mut opt = good.clone();
    opt.queries[0].set_query_type(RecordType::OPT);
    assert_eq!(reply(&opt).response_code, ResponseCode::FormErr);

    let bytes = good.to_vec().unwrap();
    for cut in 12..bytes.len() {
        let reply = Message::from_vec(&by(Transport::Udp, &bytes[..cut]).unwrap()).unwrap();
        assert_eq!((reply.id, reply.response_code), (0x1234, ResponseCode::FormErr), "{cut}");
    }
    for cut in 0..12 {
        assert_eq!(by(Transport::Udp, &bytes[..cut]), None);
    }
    let mut response = bytes.clone();
    response[2] |= 0x80;
    assert_eq!(by(Transport::Udp, &response), None, "an answer is never answered");
    // A name that leads to itself.
    let mut circle = bytes[..12].to_vec();
    circle.extend([0xc0, 12, 0, 1, 0, 1]);
    let reply = Message::from_vec(&by(Transport::Udp, &circle).unwrap()).unwrap();
    assert_eq!(reply.response_code, ResponseCode::FormErr);
}

#[test]
fn only_instances_of_this_runner_are_answered() {
    let asked = question("my-db.warp", RecordType::A).to_vec().unwrap();
    for (instance, answered) in [(1, true), (4, true), (3, false), (99, false)] {
        let reply = answer(&asked, &directory(), InstanceId(instance), Transport::Udp);
        assert_eq!(reply.is_some(), answered, "{instance}");
    }
}

#[test]
fn labels_of_any_bytes_are_no_names() {
    for label in [&b"a.b"[..], b"\xc3\xa4", b"a\0", b" "] {
        for (top, code) in [("warp", ResponseCode::NXDomain), ("com", ResponseCode::Refused)] {
            let mut asked = question("my-db.warp", RecordType::A);
            let mut name = Name::from_labels([label, top.as_bytes()]).unwrap();
            name.set_fqdn(true);
            asked.queries[0].set_name(name);
            assert_eq!(reply(&asked).response_code, code, "{label:?}");
        }
    }
}

#[test]
fn names_are_as_long_as_they_may_be() {
    let view = shop();
    let long = format!("{}.{0}.{0}.{}.warp", "x".repeat(63), "y".repeat(56));
    assert_eq!(Name::from_ascii(&long).unwrap().len(), 254);
    assert_eq!(ask(&view, &long, RecordType::A), "NXDomain (warp. SOA 5)");
}
