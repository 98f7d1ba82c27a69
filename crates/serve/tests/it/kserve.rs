//! KServe v2 in its JSON form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pil_ops::Decode;
use serde_json::{Value, json};
use test_support::http::{get, post};

use crate::common::*;

fn infer(inputs: &Value, outputs: &Value) -> Value {
    json!({ "id": "42", "inputs": inputs, "outputs": outputs })
}

fn tensor<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["outputs"].as_array().unwrap().iter().find(|o| o["name"] == name).unwrap()
}

#[test]
fn run_lengths_are_the_models_own() {
    let (server, file) = (server(), photo(1));
    let want = toy().predict(&Decode::UPRIGHT.bytes(&file).unwrap(), &["ab", "cde"]).unwrap();
    let image = json!({ "name": "image", "shape": [1], "datatype": "BYTES", "data": [STANDARD.encode(&file)] });
    let sentences = json!({ "name": "sentences", "shape": [2], "datatype": "BYTES", "data": ["ab", "cde"] });
    let answer = post(server.addr(), "/v2/models/toy/infer", &infer(&json!([image, sentences]), &json!([]))).json();
    assert_eq!((answer["id"].as_str(), answer["model_name"].as_str()), (Some("42"), Some("toy")), "{answer}");
    let counts: Vec<String> = want.iter().map(|w| w.mask.to_compressed()).collect();
    assert_eq!(tensor(&answer, "counts")["data"], json!(counts));
    assert_eq!(
        (tensor(&answer, "size")["data"].clone(), tensor(&answer, "bbox")["shape"].clone()),
        (json!([50, 70]), json!([2, 4]))
    );
    assert_eq!(tensor(&answer, "area")["data"], json!([want[0].mask.area(), want[1].mask.area()]));

    let points = json!({ "name": "points", "shape": [2, 3], "datatype": "FP64", "data": [30, 20, 1, 5, 40, 0] });
    let one = json!({ "name": "sentences", "shape": [1], "datatype": "BYTES", "data": ["ab"] });
    let clicked = infer(&json!([image, one, points]), &json!([{ "name": "score" }]));
    let answer = post(server.addr(), "/v2/models/toy/infer", &clicked).json();
    assert_eq!((answer["outputs"].as_array().unwrap().len(), tensor(&answer, "score")["shape"].clone()), (1, json!([1])));
}

#[test]
fn metadata_and_refusals_follow_the_protocol() {
    let server = server();
    let addr = server.addr();
    let model = get(addr, "/v2/models/toy").json();
    assert_eq!(model["inputs"][0], json!({ "name": "image", "datatype": "BYTES", "shape": [1] }));
    assert_eq!(get(addr, "/v2/models/toy/ready").json()["ready"], true);
    assert_eq!(get(addr, "/v2").json()["name"], "saymask");
    let image = json!({ "name": "image", "shape": [1], "datatype": "BYTES", "data": ["%%"] });
    let whole = json!({ "name": "image", "shape": [1], "datatype": "BYTES", "data": [STANDARD.encode(photo(1))] });
    let deep = json!({ "name": "sentences", "shape": [1], "datatype": "BYTES", "data": [[[["a"]]]] });
    let ragged = json!({ "name": "points", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3, 4] });
    for (path, body, status, says) in [
        ("/v2/models/other/infer", json!({ "inputs": [] }), 404, "toy"),
        ("/v2/models/toy/infer", json!({}), 400, "inputs"),
        ("/v2/models/toy/infer", json!({ "inputs": [] }), 422, "image is missing"),
        ("/v2/models/toy/infer", json!({ "inputs": [image] }), 400, "base64"),
        ("/v2/models/toy/infer", json!({ "inputs": [{ "name": "x", "datatype": "BYTES", "data": [] }] }), 422, "unknown"),
        ("/v2/models/toy/infer", json!({ "inputs": [whole] }), 422, "nothing is asked"),
        ("/v2/models/toy/infer", json!({ "inputs": [whole, deep] }), 422, "two levels"),
        ("/v2/models/toy/infer", json!({ "inputs": [whole, ragged] }), 422, "as its shape says"),
    ] {
        let reply = post(addr, path, &body);
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.json()["error"].as_str().is_some_and(|text| text.contains(says)), "{}", reply.text());
    }
}
