//! What is wrong is refused with JSON and a sentence, and the server goes on.

use serde_json::json;
use serve::{Limits, Server};
use test_support::http::{Connection, FORM, Reply, get, post, post_form, request};

use crate::common::*;

/// The sentence of a refusal with this status.
fn refusal(reply: &Reply, status: u16) -> String {
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/json")), "{}", reply.text());
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.len() > 10 && message.len() < 600, "{message}");
    message
}

fn still_answers(server: &Server) {
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &photo(99)), ("sentence", b"ab")]);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn bodies_that_say_nothing() {
    let server = server();
    let addr = server.addr();
    for (kind, body, status, says) in [
        ("application/json", &b""[..], 400, "empty"),
        ("application/json", b"{", 400, "EOF"),
        ("application/json", b"{}", 400, "no image"),
        ("application/json", b"{\"image\": 3}", 400, "string"),
        ("application/json", b"\xff\xfe", 400, "body"),
        ("application/json", b"{\"sentences\": \"a\"}", 400, "sequence"),
        ("text/plain", b"hello", 415, "multipart/form-data"),
        ("", b"", 415, "multipart/form-data"),
        ("multipart/form-data", b"", 400, "boundary"),
        (FORM, b"", 400, "multipart"),
        (FORM, b"--saymask-test-boundary\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nabc", 400, "multipart"),
        ("image/png", b"", 400, "0 bytes"),
    ] {
        let message = refusal(&request(addr, "POST", "/v1/segment", &[("Content-Type", kind)], body), status);
        assert!(message.contains(says), "`{says}` is missing in: {message}");
    }
    let fields: [(&str, &[u8]); 2] = [("image", &photo(1)), ("colour", b"red")];
    assert!(refusal(&post_form(addr, "/v1/segment", &fields), 400).contains("\"colour\" is unknown"));
    assert!(refusal(&post_form(addr, "/v1/segment", &[("image", &photo(1))]), 422).contains("nothing is asked"));
    assert!(refusal(&get(addr, "/nowhere"), 404).contains("/openapi.json"));
    assert!(refusal(&get(addr, "/v1/segment"), 405).contains("another method"));
    assert!(refusal(&get(addr, "/page/../../Cargo.toml"), 404).len() > 10);
    still_answers(&server);
}

#[test]
fn images_that_are_none() {
    let server = server();
    let whole = photo(1);
    let ask = |bytes: &[u8]| post_form(server.addr(), "/v1/segment", &[("image", bytes), ("sentence", b"ab")]);
    assert!(refusal(&ask(b"not an image"), 400).contains("JPEG, PNG and WebP"));
    assert!(refusal(&ask(b""), 400).contains("0 bytes"));
    assert!(refusal(&ask(&whole[..whole.len() / 2]), 400).contains("truncated"));
    // A whole file whose pixels are damaged is found out by the decoder, and the model thread lives on.
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0);
    assert!(refusal(&ask(&damaged), 400).contains("image"));
    still_answers(&server);
}

#[test]
fn a_picture_of_one_pixel_has_an_answer() {
    let server = server();
    let dot = png(&pixels(1, 1, 1));
    let answer = post_form(server.addr(), "/v1/segment", &[("image", &dot), ("sentence", b"ab"), ("instances", b"true")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["predictions"][0]["segmentation"]["size"], json!([1, 1]));
    for thin in [png(&pixels(1, 3000, 1)), png(&pixels(1, 1, 3000))] {
        assert_eq!(post_form(server.addr(), "/v1/segment?format=coco", &[("image", &thin), ("sentence", b"ab")]).status, 200);
    }
}

/// A PNG of 10,000 x 10,000 zeros is 100 kB as a file and 300 MB as pixels.
#[test]
fn a_hundred_megapixels_are_refused_before_they_are_decoded() {
    let server = server();
    let file = zeros(10_000, 10_000);
    let begun = std::time::Instant::now();
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &file), ("sentence", b"ab")]);
    let message = refusal(&reply, 413);
    assert!(message.contains("10000 x 10000") && message.contains("50000000"), "{message}");
    assert!(begun.elapsed().as_secs_f64() < 2.0);
}

fn zeros(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    let rows = vec![0u8; width.div_ceil(8) as usize * height as usize];
    writer.write_image_data(&rows).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn a_text_of_a_hundred_kilobytes() {
    let server = server();
    let text = "ab ".repeat(34_000);
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &photo(1)), ("sentence", text.as_bytes())]);
    assert!(refusal(&reply, 422).contains("at most 2000"));
    // What is long but allowed says what was not read.
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &photo(1)), ("sentence", "ab ".repeat(300).as_bytes())]);
    assert_eq!(reply.status, 200);
    assert!(
        reply.json()["predictions"][0]["tokens_not_read"].as_str().is_some_and(|rest| rest.starts_with("ab")),
        "{}",
        reply.text()
    );
}

#[test]
fn clicks_that_are_none_or_outside() {
    let server = server();
    let ask = |field: &str, value: &str| {
        post_form(server.addr(), "/v1/segment", &[("image", &photo(1)), ("sentence", b"ab"), (field, value.as_bytes())])
    };
    for (field, value, status, says) in [
        ("points", "[[NaN, 1]]", 400, "points"),
        ("points", "[[1e999, 1]]", 400, "points"),
        ("points", "[[null, 1]]", 400, "points"),
        ("points", "[[70, 1]]", 422, "outside the image, which is 70 x 50"),
        ("points", "[[1, -0.5]]", 422, "outside"),
        ("points", "[[1, 2, 5]]", 422, "label 5"),
        ("points", "[1, 2]", 400, "points"),
        ("boxes", "[[10, 10, 80, 20]]", 422, "reaches outside"),
        ("boxes", "[[10, 10, 5, 20]]", 422, "x0 <= x1"),
        ("boxes", "[[10, 10, 5]]", 400, "boxes"),
    ] {
        let message = refusal(&ask(field, value), status);
        assert!(message.contains(says), "{field}={value}: {message}");
    }
    assert_eq!(ask("points", "[[69.9, 49.9], [0, 0, 0]]").status, 200);
    assert_eq!(ask("boxes", "[[0, 0, 70, 50]]").status, 200);
    still_answers(&server);
}

#[test]
fn an_id_that_was_evicted() {
    // Room for one image: its features take 14 kB.
    let server = start(text_engine(), with_limits(Limits { kept_bytes: 20_000, ..Limits::default() }));
    let keep =
        |seed: u32| post_form(server.addr(), "/v1/images", &[("image", &photo(seed))]).json()["id"].as_str().unwrap().to_owned();
    let ask = |id: &str| post(server.addr(), &format!("/v1/images/{id}/segment"), &json!({ "sentences": ["ab"] }));
    let first = keep(1);
    assert_eq!(ask(&first).status, 200);
    let second = keep(2);
    assert!(refusal(&ask(&first), 404).contains("dropped for others"));
    assert_eq!((ask(&second).status, metric(&server, "saymask_kept_evicted_total")), (200, 1.0));
    for id in ["abc", "..%2f..%2fetc%2fpasswd", &"g".repeat(64)] {
        assert!(refusal(&ask(id), 404).contains("64 hexadecimal"));
    }
}

#[test]
fn the_same_image_twice_at_once_is_encoded_once() {
    let server = start(slow(150), with_limits(Limits::default()));
    let addr = server.addr();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || post_form(addr, "/v1/segment", &[("image", &photo(1)), ("sentence", b"ab")])))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(replies.iter().all(|reply| reply.status == 200));
    let masks: Vec<_> = replies.iter().map(|reply| reply.json()["predictions"][0]["segmentation"].clone()).collect();
    assert!(masks.iter().all(|mask| *mask == masks[0]));
    assert_eq!((metric(&server, "saymask_encoded_total"), metric(&server, "saymask_kept_hits_total")), (1.0, 3.0));
}

#[test]
fn a_body_beyond_the_limit() {
    let server = start(text_engine(), with_limits(Limits { body_bytes: 100_000, ..Limits::default() }));
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &vec![7; 3_000_000]), ("sentence", b"ab")]);
    assert!(refusal(&reply, 413).contains("100000 bytes"));
    still_answers(&server);
}

/// A model that fails on one request answers the next.
#[test]
fn a_panic_is_one_requests_matter() {
    let server = start(slow(0), with_limits(Limits::default()));
    let reply = post_form(server.addr(), "/v1/segment", &[("image", &photo(1)), ("sentence", b"panic")]);
    assert!(refusal(&reply, 500).contains("others are still answered"));
    still_answers(&server);
    assert_eq!(metric(&server, "saymask_panics_total"), 1.0);
}

/// Requests that are no HTTP get an answer or a closed connection, and nothing else happens.
#[test]
fn bytes_that_are_no_request() {
    let server = server();
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"POST /v1/segment HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut connection = Connection::open(server.addr()).unwrap();
        connection.raw(bytes).unwrap();
        if let Ok(reply) = connection.read() {
            assert!(reply.status >= 400);
        }
    }
    still_answers(&server);
}
