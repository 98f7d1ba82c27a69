//! One model thread: a full queue, deadlines, clients that leave or dawdle, and a stop that finishes what runs.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serve::{Limits, Server};
use test_support::http::{Connection, FORM, form, get, post_form};

use crate::common::*;

/// Sends a request about an image of its own and leaves the connection open.
fn ask(server: &Server, seed: u32) -> Connection {
    let mut connection = Connection::open(server.addr()).unwrap();
    let body = form(&[("image", &photo(seed)), ("sentence", b"ab")]);
    connection.write("POST", "/v1/segment", &[("Content-Type", FORM)], &body).unwrap();
    connection
}

fn waiting(server: &Server) -> f64 {
    metric(server, "saymask_queue_waiting")
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = start(slow(400), with_limits(Limits { queue: 2, ..Limits::default() }));
    let mut first = ask(&server, 1);
    eventually("the first request runs", || waiting(&server) == 0.0 && get(server.addr(), "/health/live").status == 200);
    std::thread::sleep(Duration::from_millis(50));
    let mut others = [ask(&server, 2), ask(&server, 3)];
    eventually("two wait", || waiting(&server) == 2.0);
    let refused = post_form(server.addr(), "/v1/segment", &[("image", &photo(4)), ("sentence", b"ab")]);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("busy")));
    assert!(refused.header("retry-after").is_some_and(|v| v.parse::<u64>().is_ok_and(|s| s >= 1)), "{refused:?}");
    // Health is answered meanwhile, and so are those that waited.
    assert_eq!(get(server.addr(), "/health/ready").status, 200);
    assert_eq!(first.read().unwrap().status, 200);
    assert!(others.iter_mut().all(|c| c.read().unwrap().status == 200));
    assert_eq!(metric(&server, "saymask_refused_total"), 1.0);
}

#[test]
fn an_answer_that_comes_too_late_is_said() {
    let server = start(slow(400), with_limits(Limits { deadline: Duration::from_millis(150), ..Limits::default() }));
    let begun = Instant::now();
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &photo(1)), ("sentence", b"ab")]);
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (504, Some("late")));
    assert!(begun.elapsed() < Duration::from_millis(390), "{:?}", begun.elapsed());
}

/// Whoever hangs up frees the model: of ten requests of 300 ms that were given up, one at most was begun.
#[test]
fn clients_that_hang_up_cost_nothing() {
    let server = start(slow(300), with_limits(Limits::default()));
    let connections: Vec<Connection> = (0..10).map(|seed| ask(&server, seed)).collect();
    eventually("nine wait", || waiting(&server) == 9.0);
    let begun = Instant::now();
    drop(connections);
    eventually("all are cancelled", || metric(&server, "saymask_cancelled_total") == 10.0);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(metric(&server, "saymask_encoded_total"), 1.0, "the one that ran");
    assert_eq!(post_form(server.addr(), "/v1/segment", &[("image", &photo(50)), ("sentence", b"ab")]).status, 200);
}

fn limits_of_time() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        deadline: Duration::from_millis(700),
        ..Limits::default()
    }
}

/// Whether the other side closes within two seconds.
fn closes(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn slow_heads_and_bodies_are_cut() {
    use std::io::Write;
    let server = start(text_engine(), with_limits(limits_of_time()));
    let mut head = TcpStream::connect(server.addr()).unwrap();
    head.write_all(b"POST /v1/segment HTTP/1.1\r\nHost: local").unwrap();
    assert!(closes(&head), "a head that never ends");

    let mut body = Connection::open(server.addr()).unwrap();
    let fields = form(&[("image", &photo(1)), ("sentence", b"ab")]);
    let length = (fields.len() + 10).to_string();
    let headers = [("Content-Type", FORM), ("Content-Length", length.as_str())];
    body.write("POST", "/v1/segment", &headers, &fields).unwrap();
    let reply = body.read().unwrap();
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (408, Some("slow")));
    assert!(closes(&TcpStream::connect(server.addr()).unwrap()), "a connection that says nothing");
}

/// An answer of megabytes that nobody reads does not hold its connection.
#[test]
fn clients_that_do_not_read_are_cut() {
    let server = start(text_engine(), with_limits(Limits { connections: 1, ..limits_of_time() }));
    let mut lazy = Connection::open(server.addr()).unwrap();
    let image = png(&pixels(1, 3000, 3000));
    let questions = format!("[{}]", ["{\"sentence\":\"ab\"},{\"points\":[[9,9]]}"; 12].join(","));
    let fields = form(&[("image", &image), ("questions", questions.as_bytes()), ("polygons", b"true"), ("instances", b"true")]);
    // On a loaded machine the body itself may be too slow, and is cut then.
    let _ = lazy.write("POST", "/v1/segment", &[("Content-Type", FORM)], &fields);
    // The only place is free again only when the lazy one was cut, or its answer fitted the sockets' buffers.
    let begun = Instant::now();
    assert_eq!(get(server.addr(), "/health/live").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_stop_finishes_what_runs_and_takes_nothing_new() {
    let server = start(slow(500), with_limits(Limits::default()));
    let addr = server.addr();
    let mut running = ask(&server, 1);
    let mut queued = ask(&server, 2);
    eventually("one waits", || waiting(&server) == 1.0);
    let stopping = std::thread::spawn(move || server.stop());
    std::thread::sleep(Duration::from_millis(100));
    assert!(TcpStream::connect(addr).is_err(), "nothing new");
    assert_eq!(running.read().unwrap().status, 200);
    assert_eq!(queued.read().unwrap().status, 200);
    stopping.join().unwrap().unwrap();
}
