//! The v1 API: answers equal the model's, kept images, formats, instances, clicks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coco_mask::Rle;
use models::Question;
use pil_ops::Decode;
use sam_vit::{MaskPrediction, Output, PromptSet};
use serde_json::{Value, json};
use serve::{Engine, Options, SamEngine};
use test_support::http::{get, post, post_form, request};

use crate::common::*;

fn mask(entry: &Value) -> Rle {
    let size = &entry["segmentation"]["size"];
    let side = |i: usize| size[i].as_u64().unwrap() as u32;
    Rle::from_compressed(side(0), side(1), entry["segmentation"]["counts"].as_str().unwrap()).unwrap()
}

#[test]
fn an_answer_is_the_models_own_to_the_pixel() {
    let (server, model, file) = (server(), toy(), photo(1));
    let image = Decode::UPRIGHT.bytes(&file).unwrap();
    let want = model.predict(&image, &["ab", "cde"]).unwrap();
    let form = post_form(server.addr(), "/v1/segment", &[("image", &file), ("sentence", b"ab"), ("sentence", b" cde ")]);
    let body = json!({ "image": STANDARD.encode(&file), "sentences": ["ab", "cde"] });
    let json = post(server.addr(), "/v1/segment", &body);
    for (reply, kept) in [(form, false), (json, true)] {
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{}", reply.text());
        let answer = reply.json();
        assert_eq!(
            (answer["width"].as_u64(), answer["height"].as_u64(), answer["kept"].as_bool()),
            (Some(70), Some(50), Some(kept))
        );
        assert_eq!(answer["model"], "toy");
        for (entry, want) in answer["predictions"].as_array().unwrap().iter().zip(&want) {
            assert_eq!(mask(entry), want.mask);
            assert_eq!(entry["bbox"], json!(want.bbox));
            assert_eq!(entry["score"].as_f64().unwrap() as f32, want.score);
            assert_eq!((entry["presence"].clone(), entry["area"].as_u64()), (Value::Null, Some(want.mask.area())));
        }
        for stage in ["queue", "decode", "encode", "ask", "total"] {
            assert!(answer["ms"][stage].as_f64().is_some_and(|ms| ms >= 0.0), "{stage}");
        }
    }
    assert_eq!((metric(&server, "saymask_encoded_total"), metric(&server, "saymask_kept_hits_total")), (1.0, 1.0));
}

#[test]
fn a_kept_image_is_asked_corrected_and_forgotten() {
    let (server, model, file) = (server(), toy(), photo(2));
    let addr = server.addr();
    let made = request(addr, "POST", "/v1/images", &[("Content-Type", "image/png")], &file).json();
    assert_eq!(made["kept"], false);
    assert_eq!(post_form(addr, "/v1/images", &[("image", &file)]).json()["kept"], true);
    let path = format!("/v1/images/{}/segment", made["id"].as_str().unwrap());

    let image = Decode::UPRIGHT.bytes(&file).unwrap();
    let embedding = model.embed(&image).unwrap();
    let questions = [
        Question::sentence("ab"),
        Question::sentence("ab").with_point([30.0, 20.0], 1).with_point([5.0, 40.0], 0),
        Question::default().with_box([3.0, 4.0, 40.0, 45.0]),
    ];
    let want = model.ask_with(&embedding, &questions).unwrap();
    let body = json!({ "questions": [
        { "sentence": "ab" },
        { "sentence": "ab", "points": [[30, 20], [5, 40, 0]] },
        { "box": [3, 4, 40, 45] },
    ] });
    let answer = post(addr, &path, &body).json();
    let entries = answer["predictions"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for (entry, want) in entries.iter().zip(&want) {
        assert_eq!(mask(entry), want.mask);
    }
    assert_eq!(entries[1]["points"], json!([[30.0, 20.0, 1], [5.0, 40.0, 0]]));
    // The flat form asks the same.
    let flat = post(addr, &path, &json!({ "sentences": ["ab"], "points": [[30, 20, 1], [5, 40, 0]] })).json();
    assert_eq!(flat["predictions"][0]["segmentation"], entries[1]["segmentation"]);

    let gone = |method: &str, path: &str| {
        request(addr, method, path, &[("Content-Type", "application/json")], b"{\"sentences\":[\"a\"]}")
    };
    let one = format!("/v1/images/{}", made["id"].as_str().unwrap());
    assert_eq!(gone("DELETE", &one).status, 200);
    assert_eq!(gone("DELETE", &one).status, 404);
    let reply = gone("POST", &path);
    assert_eq!(reply.status, 404);
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("POST /v1/images again"));
}

#[test]
fn masks_come_in_four_formats() {
    let (server, file) = (server(), photo(3));
    let ask = |path: &str| post_form(server.addr(), path, &[("image", &file), ("sentences", b"[\"ab\", \"cde\"]")]).json();
    let rle = ask("/v1/segment?polygons=true");
    let want: Vec<Rle> = rle["predictions"].as_array().unwrap().iter().map(mask).collect();
    let png = ask("/v1/segment?format=png");
    let polygon = ask("/v1/segment?format=polygon");
    for (i, want) in want.iter().enumerate() {
        let bytes = STANDARD.decode(png["predictions"][i]["png"].as_str().unwrap()).unwrap();
        let shown: Vec<u8> = image::load_from_memory(&bytes).unwrap().to_luma8().into_raw();
        assert_eq!(shown, want.to_row_major().into_iter().map(|v| v * 255).collect::<Vec<u8>>());
        assert_eq!(polygon["predictions"][i]["segmentation"], rle["predictions"][i]["polygons"]);
        assert!(polygon["predictions"][i]["segmentation"].as_array().is_some());
    }
    let coco = ask("/v1/segment?format=coco&instances=1");
    assert_eq!(coco["categories"].as_array().unwrap().len(), 2);
    let area: u64 = coco["annotations"].as_array().unwrap().iter().map(|a| a["area"].as_u64().unwrap()).sum();
    assert!(area > 0 && area <= want.iter().map(Rle::area).sum());
    let wrong = post_form(server.addr(), "/v1/segment?format=bmp", &[("image", &file), ("sentence", b"a")]);
    assert_eq!(wrong.status, 422);
}

#[test]
fn instances_are_the_masks_parts() {
    let (server, file) = (server(), photo(4));
    let fields: [(&str, &[u8]); 3] = [("image", &file), ("sentence", b"ab"), ("instances", b"true")];
    let answer = post_form(server.addr(), "/v1/segment", &fields).json();
    let entry = &answer["predictions"][0];
    let parts: Vec<Rle> = entry["instances"].as_array().unwrap().iter().map(mask).collect();
    assert!(!parts.is_empty());
    assert_eq!(coco_mask::merge(&parts, coco_mask::Merge::Union).unwrap(), mask(entry).canonical());
    assert!(entry["instances"].as_array().unwrap().iter().all(|i| i["score"].as_f64().unwrap() > 0.5));
}

/// Stored on its side, seen upright: width and height of the answer are those that a person sees.
#[test]
fn exif_turns_images_as_everywhere() {
    use image::ImageEncoder;
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95);
    let mut exif = vec![b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0];
    exif.extend([0; 4]);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&pixels(5, 70, 50), 70, 50, image::ExtendedColorType::Rgb8).unwrap();
    let server = server();
    let fields: [(&str, &[u8]); 3] = [("image", &jpeg), ("sentence", b"ab"), ("points", b"[[10, 65]]")];
    let answer = post_form(server.addr(), "/v1/segment", &fields).json();
    assert_eq!((answer["width"].as_u64(), answer["height"].as_u64()), (Some(50), Some(70)), "{answer}");
    let want = toy().ask_with(
        &toy().embed(&Decode::UPRIGHT.bytes(&jpeg).unwrap()).unwrap(),
        &[Question::sentence("ab").with_point([10.0, 65.0], 1)],
    );
    assert_eq!(mask(&answer["predictions"][0]), want.unwrap()[0].mask);
}

/// The best of masks of a model that `saymask segment` asks.
fn best<E: std::fmt::Debug>(masks: Result<Vec<MaskPrediction>, E>) -> Rle {
    masks.unwrap().into_iter().max_by(|a, b| a.iou.total_cmp(&b.iou)).unwrap().mask
}

/// What a server of a model without text answers to a click, and to a box.
fn prompted(engine: impl Engine, method: &str, file: &[u8]) -> [Rle; 2] {
    let server = start(engine, Options::default());
    let models = get(server.addr(), "/v1/models").json();
    assert_eq!((&models["models"][0]["method"], &models["models"][0]["sentences"]), (&json!(method), &json!(false)));
    let refused = post_form(server.addr(), "/v1/segment", &[("image", file), ("sentence", b"ab")]);
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("reads no sentences"));
    assert_eq!(post_form(server.addr(), "/v1/attention", &[("image", file), ("sentence", b"ab")]).status, 422);
    let asked: [(&str, &[u8]); 2] = [("points", b"[[20, 30]]"), ("boxes", b"[[2, 3, 40, 41]]")];
    asked.map(|prompt| {
        let answer = post_form(server.addr(), "/v1/segment", &[("image", file), prompt]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        mask(&answer.json()["predictions"][0])
    })
}

#[test]
fn segment_anything_models_themselves_take_clicks_and_boxes() {
    let file = photo(6);
    let image = Decode::UPRIGHT.bytes(&file).unwrap();
    let (click, boxed) = (PromptSet::click(20.0, 30.0), PromptSet::boxed([2.0, 3.0, 40.0, 41.0]));

    let sam = toy_sam();
    let at = sam.embed(&image).unwrap();
    let want = [best(sam.predict(&at, &click, Output::Multi)), best(sam.predict(&at, &boxed, Output::Single))];
    assert_eq!(prompted(sam_engine(), "sam", &file), want);

    let sam = toy_efficient_sam();
    let at = sam.embed(&image).unwrap();
    let want = [&click, &boxed].map(|prompt| best(sam.predict(&at, prompt, Output::Multi)));
    assert_eq!(prompted(SamEngine::new(sam, "toy", "formula weights"), "efficient-sam", &file), want);

    let sam = toy_sam2();
    let at = sam.embed(&image).unwrap();
    let want =
        [best(sam.predict(&at, &click, sam2::Answer::BestOfThree)), best(sam.predict(&at, &boxed, sam2::Answer::StableElseBest))];
    assert_eq!(prompted(SamEngine::new(sam, "toy", "formula weights"), "sam2", &file), want);
}

#[test]
fn the_rest_of_the_addresses_answer() {
    let server = server();
    let models = get(server.addr(), "/v1/models").json();
    assert_eq!((models["models"][0]["method"].as_str(), models["models"][0]["points"].as_bool()), (Some("evf"), Some(true)));
    // Maps are drawn over the pixels, whether or not the image's encoding is kept.
    for kept in [false, true] {
        let maps = post_form(server.addr(), "/v1/attention", &[("image", &photo(7)), ("sentence", b"ab")]);
        let found = (maps.status, maps.header("content-type"), maps.body.get(1..4));
        assert_eq!(found, (200, Some("image/png"), Some(&b"PNG"[..])), "kept: {kept}");
        post_form(server.addr(), "/v1/images", &[("image", &photo(7))]);
    }
    for path in
        ["/health/live", "/health/ready", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready", "/label-studio/health"]
    {
        let reply = get(server.addr(), path);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}");
    }
    let page = get(server.addr(), "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("page/app.js"));
    assert_eq!(get(server.addr(), "/page/app.js").header("content-type"), Some("text/javascript; charset=utf-8"));
}
