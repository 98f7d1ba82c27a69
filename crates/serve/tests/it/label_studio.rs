//! Label Studio's backend: labels, texts and clicks in, brush masks that unpack to the model's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use models::Question;
use pil_ops::Decode;
use serde_json::{Value, json};
use serve::Options;
use test_support::http::{get, post};

use crate::common::*;

const CONFIG: &str = "<View><Image name=\"image\" value=\"$image\"/><TextArea name=\"prompt\" toName=\"image\"/>\
    <BrushLabels name=\"brush\" toName=\"image\"><Label value=\"ab\"/><Label value=\"cde\"/></BrushLabels>\
    <RectangleLabels name=\"box\" toName=\"image\"><Label value=\"ab\"/></RectangleLabels></View>";

fn uri(file: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(file))
}

fn regions<'a>(answer: &'a Value, kind: &str) -> Vec<&'a Value> {
    answer["results"][0]["result"].as_array().unwrap().iter().filter(|r| r["type"] == kind).collect()
}

/// The packed bytes that a mask must have.
fn packed(mask: &coco_mask::Rle) -> Value {
    json!(serve::label_studio::brush::encode(mask))
}

#[test]
fn labels_are_sentences_and_masks_are_the_models_own() {
    let (server, file) = (server(), photo(1));
    let addr = server.addr();
    assert_eq!(get(addr, "/label-studio/health").json()["status"], "UP");
    let setup = post(addr, "/label-studio/setup", &json!({ "project": "1", "schema": CONFIG })).json();
    let version = setup["model_version"].as_str().unwrap().to_owned();
    assert!(version.starts_with("saymask-"), "{setup}");

    let want = toy().predict(&Decode::UPRIGHT.bytes(&file).unwrap(), &["ab", "cde"]).unwrap();
    let task = json!({ "id": 1, "data": { "image": uri(&file) } });
    let answer = post(addr, "/label-studio/predict", &json!({ "tasks": [task], "label_config": CONFIG })).json();
    let brushes = regions(&answer, "brushlabels");
    assert_eq!((brushes.len(), answer["results"][0]["model_version"].as_str()), (2, Some(version.as_str())), "{answer}");
    for ((region, want), label) in brushes.iter().zip(&want).zip(["ab", "cde"]) {
        assert_eq!(region["value"]["rle"], packed(&want.mask));
        assert_eq!((region["value"]["format"].as_str(), &region["value"]["brushlabels"]), (Some("rle"), &json!([label])));
        assert_eq!((region["original_width"].as_u64(), region["original_height"].as_u64()), (Some(70), Some(50)));
        assert_eq!((region["from_name"].as_str(), region["to_name"].as_str()), (Some("brush"), Some("image")));
    }
    let boxes = regions(&answer, "rectanglelabels");
    let [x, y, w, h] = want[0].bbox;
    let percent = json!({ "x": 100.0 * x / 70.0, "y": 100.0 * y / 50.0, "width": 100.0 * w / 70.0, "height": 100.0 * h / 50.0, "rotation": 0, "rectanglelabels": ["ab"] });
    assert_eq!((boxes.len(), &boxes[0]["value"]), (1, &percent));
}

#[test]
fn a_text_area_and_clicks_are_asked_in_a_session() {
    let (server, file) = (server(), photo(2));
    let model = toy();
    let embedding = model.embed(&Decode::UPRIGHT.bytes(&file).unwrap()).unwrap();
    let ask = |context: Value| {
        let task = json!({ "id": 1, "data": { "image": uri(&file) } });
        let body = json!({ "tasks": [task], "label_config": CONFIG, "params": { "context": context } });
        let answer = post(server.addr(), "/label-studio/predict", &body).json();
        regions(&answer, "brushlabels")[0]["value"].clone()
    };
    let value = ask(json!({ "result": [{ "type": "textarea", "value": { "text": ["xyz"] } }] }));
    let want = model.ask(&embedding, &["xyz"]).unwrap();
    // A sentence that is nobody's label comes under the first.
    assert_eq!((&value["rle"], &value["brushlabels"]), (&packed(&want[0].mask), &json!(["ab"])));

    let click = json!({ "type": "keypointlabels", "is_positive": true, "original_width": 70, "original_height": 50,
        "value": { "x": 50.0, "y": 40.0, "width": 0.5, "keypointlabels": ["cde"] } });
    let value = ask(json!({ "result": [click] }));
    let want = model.ask_with(&embedding, &[Question::sentence("cde").with_point([35.0, 20.0], 1)]).unwrap();
    assert_eq!((&value["rle"], &value["brushlabels"]), (&packed(&want[0].mask), &json!(["cde"])));
}

#[test]
fn images_are_taken_from_the_media_folder_and_never_fetched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("upload/7")).unwrap();
    std::fs::write(folder.path().join("upload/7/abc photo.png"), photo(3)).unwrap();
    let body = |address: &str| json!({ "tasks": [{ "data": { "image": address } }], "label_config": CONFIG });
    let with = start(text_engine(), Options { media: Some(folder.path().to_owned()), ..Options::default() });
    let reply = post(with.addr(), "/label-studio/predict", &body("/data/upload/7/abc%20photo.png"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    for outside in ["/data/upload/../../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x.png", ""] {
        assert_eq!(post(with.addr(), "/label-studio/predict", &body(outside)).status, 404, "{outside}");
    }
    let without = server();
    let reply = post(without.addr(), "/label-studio/predict", &body("/data/upload/7/abc%20photo.png"));
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("--media"));
    for (tasks, config, says) in [
        (json!([{ "data": {} }]), CONFIG, "data.image"),
        (json!([{ "data": { "image": "data:image/png;base64,AAAA" } }]), CONFIG, "image"),
        (json!([]), "<View/>", "no <Image"),
        (Value::Array(vec![json!({}); 33]), CONFIG, "at most 32"),
    ] {
        let reply = post(without.addr(), "/label-studio/predict", &json!({ "tasks": tasks, "label_config": config }));
        assert!(reply.status >= 400 && reply.status < 500 && reply.text().contains(says), "{}", reply.text());
    }
}
