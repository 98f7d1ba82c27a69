//! Mixed requests by several clients at once, valid and broken, each with what it must be answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use test_support::http::{Connection, FORM, Reply, form};

use super::{Percentiles, milliseconds};

/// Images that are kept and asked about.
const IMAGES: usize = 8;
const JSON: &str = "application/json";

/// What became of all requests.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) requests: usize,
    pub(crate) clients: usize,
    pub(crate) seconds: f64,
    /// Answers 429, after which the request was sent again.
    pub(crate) busy: usize,
    /// What was answered otherwise than it must be.
    pub(crate) failures: Vec<String>,
    /// Resident memory of the server after a tenth and at the end.
    pub(crate) memory_mb: [f64; 2],
    /// Milliseconds by kind.
    pub(crate) kinds: BTreeMap<&'static str, Percentiles>,
}

/// A request and the status that it must have.
struct Sent {
    kind: &'static str,
    method: &'static str,
    path: String,
    content: &'static str,
    body: Vec<u8>,
    want: u16,
}

#[derive(Default)]
struct Seen {
    times: BTreeMap<&'static str, Vec<f64>>,
    failures: Vec<String>,
    memory: Vec<(usize, f64)>,
}

/// Sends `requests` by `clients` threads.
pub(crate) fn load(addr: SocketAddr, pid: u32, file: &[u8], sentence: &str, requests: usize, clients: usize) -> Result<Load> {
    let ids = keep(addr, file)?;
    let (next, busy, seen) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Seen::default()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        break;
                    }
                    let sent = request(number, file, sentence, &ids);
                    let begun = Instant::now();
                    let outcome = if sent.kind == "client hangs up" {
                        connection = None;
                        hang_up(addr, &sent)
                    } else {
                        answer(&mut connection, addr, &sent, &busy)
                    };
                    let took = milliseconds(begun.elapsed());
                    let mut seen = seen.lock().unwrap_or_else(|e| e.into_inner());
                    match outcome {
                        Ok(()) => seen.times.entry(sent.kind).or_default().push(took),
                        Err(error) => seen.failures.push(format!("{} {} ({}): {error:#}", sent.method, sent.path, sent.kind)),
                    }
                    if number.is_multiple_of(50)
                        && let Some(mb) = resident_mb(pid)
                    {
                        seen.memory.push((number, mb));
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap_or_else(|e| e.into_inner());
    let mean = |from: usize, to: usize| {
        let all: Vec<f64> = seen.memory.iter().filter(|(n, _)| (from..to).contains(n)).map(|(_, mb)| *mb).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    Ok(Load {
        requests,
        clients,
        seconds: begun.elapsed().as_secs_f64(),
        busy: busy.into_inner(),
        failures: seen.failures,
        memory_mb: [mean(requests / 10, requests / 5), mean(requests - requests / 10, requests)],
        kinds: seen.times.into_iter().map(|(kind, times)| (kind, Percentiles::of(times))).collect(),
    })
}

/// Keeps some images; their ids.
fn keep(addr: SocketAddr, file: &[u8]) -> Result<Vec<String>> {
    let mut connection = Connection::open(addr)?;
    let mut keep = |number: usize| -> Result<String> {
        let bytes = [file, format!("kept {number}").as_bytes()].concat();
        let made = connection.send("POST", "/v1/images", &[("Content-Type", "image/png")], &bytes)?.json();
        Ok(made["id"].as_str().context("no id")?.to_owned())
    };
    (0..IMAGES).map(&mut keep).collect()
}

/// Request number so and so: most ask about kept images, some bring their own, a quarter is broken.
fn request(number: usize, file: &[u8], sentence: &str, ids: &[String]) -> Sent {
    let kept = format!("/v1/images/{}/segment", ids[number % ids.len()]);
    let own = || [file, format!("load {number}").as_bytes()].concat();
    let text = sentence.as_bytes();
    let sent = |kind, method, path: String, content, body: Vec<u8>, want| Sent { kind, method, path, content, body, want };
    let segment = || "/v1/segment".to_owned();
    let asked = |body: serde_json::Value| body.to_string().into_bytes();
    match number % 40 {
        0..=17 => sent("a sentence, kept image", "POST", kept, JSON, asked(json!({ "sentences": [sentence] })), 200),
        18..=20 => {
            let body = json!({ "sentences": [sentence], "points": [[3, 4, 1], [9, 9, 0]], "instances": true, "polygons": true });
            sent("a corrected sentence, kept image", "POST", kept, JSON, asked(body), 200)
        }
        21 | 22 => sent("an image and a sentence", "POST", segment(), FORM, form(&[("image", &own()), ("sentence", text)]), 200),
        23 => sent("encode and keep", "POST", "/v1/images".into(), "image/png", own(), 200),
        24 => {
            let fields: [(&str, &[u8]); 3] = [("image", file), ("sentence", text), ("format", b"coco")];
            sent("COCO file, kept image", "POST", segment(), FORM, form(&fields), 200)
        }
        25 | 26 => sent("health and metrics", "GET", ["/health/ready", "/metrics"][number % 2].into(), JSON, Vec::new(), 200),
        27 | 28 => sent("page", "GET", ["/", "/page/app.js"][number % 2].into(), JSON, Vec::new(), 200),
        29 => sent("broken: no image", "POST", segment(), FORM, form(&[("image", b"not an image"), ("sentence", text)]), 400),
        30 => sent(
            "broken: truncated image",
            "POST",
            segment(),
            FORM,
            form(&[("image", &file[..file.len() / 2]), ("sentence", text)]),
            400,
        ),
        31 => sent("broken: empty body", "POST", segment(), JSON, Vec::new(), 400),
        32 => sent(
            "broken: unknown id",
            "POST",
            format!("/v1/images/{}/segment", "0".repeat(64)),
            JSON,
            asked(json!({ "sentences": [sentence] })),
            404,
        ),
        33 => sent("broken: NaN click", "POST", kept, JSON, b"{\"points\": [[NaN, 1]]}".to_vec(), 400),
        34 => sent("broken: click outside", "POST", kept, JSON, asked(json!({ "points": [[1e6, 1]] })), 422),
        35 => sent("broken: 100 kB of text", "POST", kept, JSON, asked(json!({ "sentences": ["word ".repeat(20_000)] })), 422),
        36 => sent("broken: wrong method", "DELETE", segment(), JSON, Vec::new(), 405),
        37 => sent("broken: unknown address", "GET", "/nowhere".into(), JSON, Vec::new(), 404),
        _ => sent("client hangs up", "POST", segment(), FORM, form(&[("image", &own()), ("sentence", text)]), 0),
    }
}

fn answer(connection: &mut Option<Connection>, addr: SocketAddr, sent: &Sent, busy: &AtomicUsize) -> Result<()> {
    loop {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(addr)?,
        };
        let reply = open.send(sent.method, &sent.path, &[("Content-Type", sent.content)], &sent.body)?;
        if reply.header("connection") != Some("close") {
            *connection = Some(open);
        }
        if reply.status == 429 {
            busy.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        return check(&reply, sent.want);
    }
}

fn check(reply: &Reply, want: u16) -> Result<()> {
    anyhow::ensure!(reply.status == want, "{} instead of {want}: {}", reply.status, reply.text());
    let refused = want >= 400;
    anyhow::ensure!(!refused || reply.json()["error"]["message"].is_string(), "a refusal without a sentence: {}", reply.text());
    Ok(())
}

/// Sends a request and leaves.
fn hang_up(addr: SocketAddr, sent: &Sent) -> Result<()> {
    let mut connection = Connection::open(addr)?;
    connection.write(sent.method, &sent.path, &[("Content-Type", sent.content)], &sent.body)?;
    std::thread::sleep(Duration::from_millis(3));
    Ok(())
}

/// Resident memory of a process.
fn resident_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb / 1024.0)
}
