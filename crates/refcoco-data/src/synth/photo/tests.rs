//! Sentences over photographs are read again by a parser that knows nothing of how they were made; pictures keep their words' promises.

use std::collections::BTreeMap;

use super::super::scene::{Object, Scene, Shape, Size};
use super::super::{Sample, SynthConfig, SynthFormat, SynthStyle, generate, generated_by, sample, stream};
use super::super::{Stream, draw::paint};
use crate::{Dataset, DatasetSpec, SentenceKind};

const SHAPES: [(&str, &[&str]); 8] = [
    ("circle", &["circle", "circles", "disc", "discs", "disk", "disks"]),
    ("square", &["square", "squares", "tile", "tiles"]),
    ("triangle", &["triangle", "triangles", "wedge", "wedges"]),
    ("star", &["star", "stars"]),
    ("ring", &["ring", "rings", "donut", "donuts", "hoop", "hoops"]),
    ("cross", &["cross", "crosses", "plus", "pluses"]),
    ("hexagon", &["hexagon", "hexagons", "hex", "hexes"]),
    ("heart", &["heart", "hearts"]),
];
const COLOURS: [(&str, &[&str]); 8] = [
    ("red", &["red", "crimson", "scarlet"]),
    ("orange", &["orange", "tangerine"]),
    ("yellow", &["yellow", "golden"]),
    ("green", &["green", "emerald"]),
    ("blue", &["blue", "cobalt"]),
    ("purple", &["purple", "violet"]),
    ("white", &["white", "ivory"]),
    ("black", &["black", "ebony"]),
];
const TEXTURES: [(&str, &[&str]); 4] = [
    ("plain", &["plain", "solid"]),
    ("striped", &["striped", "stripy", "stripes"]),
    ("dotted", &["dotted", "spotted", "speckled", "dots"]),
    ("checkered", &["checkered", "chequered", "checks"]),
];
const SIZES: [(&str, &[&str]); 2] = [("small", &["small", "little", "tiny"]), ("big", &["big", "large", "huge"])];
const FILLERS: &str = "a an the that which is and on in at of side corner this can be seen lying picture table photo with one ones thing \
                       things object objects piece pieces all both two three everything";
/// Longer phrases first.
const RELATIONS: [(&str, &str); 10] = [
    (" to the left of ", "left"),
    (" to the right of ", "right"),
    (" partly hidden by ", "behind"),
    (" in front of ", "front"),
    (" left of ", "left"),
    (" right of ", "right"),
    (" above ", "above"),
    (" below ", "below"),
    (" beneath ", "below"),
    (" behind ", "behind"),
];

/// What a noun phrase asks for.
#[derive(Default, Debug)]
struct Words {
    /// Shape, colour, texture, size.
    attributes: [Option<&'static str>; 4],
    /// Axis and sign.
    sides: Vec<(usize, f64)>,
    most: Option<(usize, f64)>,
    far: bool,
    middle: bool,
    nth: Option<usize>,
}

fn words(text: &str) -> Words {
    let text = text
        .replace("furthest to the left", "leftmost")
        .replace("furthest to the right", "rightmost")
        .replace("furthest away", "farthest")
        .replace("closest to us", "closest")
        .replace("nearest to the camera", "nearest")
        .replace("from the ", "from ");
    let (text, from) = match text.rsplit_once(" from ") {
        Some((text, rest)) => {
            let (side, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            (format!("{text} {tail}"), Some(side.to_owned()))
        }
        None => (text, None),
    };
    let mut out = Words::default();
    for word in text.split(' ').filter(|w| !w.is_empty() && !FILLERS.split_whitespace().any(|f| f == *w)) {
        let tables: [&[(&'static str, &[&str])]; 4] = [&SHAPES, &COLOURS, &TEXTURES, &SIZES];
        let named =
            tables.iter().enumerate().find_map(|(k, table)| Some((k, table.iter().find(|(_, all)| all.contains(&word))?.0)));
        match (word, named) {
            (_, Some((k, name))) => assert!(out.attributes[k].replace(name).is_none(), "twice in \"{text}\""),
            ("left", _) => out.sides.push((0, -1.0)),
            ("right", _) => out.sides.push((0, 1.0)),
            ("top" | "upper" | "back", _) => out.sides.push((1, -1.0)),
            ("bottom" | "lower" | "front", _) => out.sides.push((1, 1.0)),
            ("leftmost", _) => out.most = Some((0, -1.0)),
            ("rightmost", _) => out.most = Some((0, 1.0)),
            ("topmost" | "farthest", _) => out.most = Some((1, -1.0)),
            ("closest" | "nearest", _) => out.most = Some((1, 1.0)),
            ("far", _) => out.far = true,
            ("middle" | "center" | "central", _) => out.middle = true,
            ("second" | "2nd", _) => out.nth = Some(2),
            ("third" | "3rd", _) => out.nth = Some(3),
            (other, _) => panic!("the parser does not know \"{other}\" in \"{text}\""),
        }
    }
    if let Some(from) = from {
        assert!(out.nth.is_some() && out.sides.is_empty(), "{text}");
        out.sides.push((0, if from == "left" { -1.0 } else { 1.0 }));
    }
    out
}

fn fits(w: &Words, o: &Object) -> bool {
    let names = [o.shape.name(), o.colour.name(), o.texture.name(), o.size.name()];
    w.attributes.iter().zip(names).all(|(asked, name)| asked.is_none_or(|a| a == name))
}

/// Crisp reading: halves meet in the middle, no margins.
fn find(scene: &Scene, text: &str) -> Vec<usize> {
    let w = words(text);
    let at = |i: usize, axis: usize| {
        let (x, y) = scene.objects[i].centre;
        if axis == 0 { x / f64::from(scene.width) - 0.5 } else { y / f64::from(scene.height) - 0.5 }
    };
    let mut found: Vec<usize> = (0..scene.objects.len()).filter(|&i| fits(&w, &scene.objects[i])).collect();
    let outermost = |found: &mut Vec<usize>, (axis, sign): (usize, f64)| {
        found.sort_by(|&a, &b| (sign * at(b, axis)).total_cmp(&(sign * at(a, axis))));
    };
    if let Some(nth) = w.nth {
        outermost(&mut found, w.sides[0]);
        assert!(found.len() > nth, "\"{text}\" counts {found:?}");
        return vec![found[nth - 1]];
    }
    if let Some(most) = w.most.or(w.far.then(|| w.sides[0])) {
        outermost(&mut found, most);
        found.truncate(1);
    }
    found.retain(|&i| w.sides.iter().all(|&(axis, sign)| sign * at(i, axis) > if w.far { 0.16 } else { 0.0 }));
    found.retain(|&i| !w.middle || (at(i, 0).abs() < 0.19 && at(i, 1).abs() < 0.19));
    found.sort_unstable();
    found
}

/// Reads a sentence. Where `away`, what lies further away counts as behind, even if it is not hidden.
fn read(scene: &Scene, text: &str, away: bool) -> Vec<usize> {
    let whole = ["picture", "table", "photo"].iter().fold(format!(" {text} "), |t, w| t.replace(&format!(" of the {w}"), ""));
    // "the red disc and the star" is two; "red and striped" is one.
    if let Some((a, b)) = whole.split_once(" and the ") {
        let mut both = [find(scene, a.trim()), find(scene, b.trim())].concat();
        assert_eq!(both.len(), 2, "{text}");
        both.sort_unstable();
        return both;
    }
    let first = RELATIONS.iter().filter_map(|(phrase, name)| Some((whole.find(phrase)?, *phrase, *name)));
    let Some((at, phrase, name)) = first.min_by_key(|f| (f.0, std::cmp::Reverse(f.1.len()))) else {
        return find(scene, whole.trim());
    };
    let anchors = read(scene, whole[at + phrase.len()..].trim(), away);
    let [a] = anchors[..] else { panic!("\"{text}\" leans on {anchors:?}") };
    let (ax, ay) = scene.objects[a].centre;
    let mut found = find(scene, whole[..at].trim());
    found.retain(|&i| {
        let (x, y) = scene.objects[i].centre;
        let (dx, dy) = (ax - x, ay - y);
        i != a
            && match name {
                "left" => dx > dy.abs(),
                "right" => -dx > dy.abs(),
                "above" => dy > dx.abs(),
                "below" => -dy > dx.abs(),
                "behind" => scene.hidden[i][a] > 0.02 || (away && dy > dx.abs()),
                _ => scene.hidden[a][i] > 0.02 || (away && -dy > dx.abs()),
            }
    });
    found
}

fn config(seed: u64, images: usize) -> SynthConfig {
    SynthConfig { seed, images, size: 96, max_objects: 6, style: SynthStyle::Photo, ..SynthConfig::default() }
}

fn samples(seeds: u64, images: usize) -> Vec<Sample> {
    let each = (0..seeds).flat_map(|seed| (0..images).map(move |i| (seed, i)));
    each.map(|(seed, i)| sample(&config(seed, images), i).unwrap()).collect()
}

#[test]
fn every_sentence_means_its_referent_and_nothing_else() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let two_steps = |text: &str| {
        let padded = text.replace("to the left of", "left of").replace("to the right of", "right of");
        RELATIONS.iter().map(|(phrase, _)| padded.matches(phrase).count()).sum::<usize>() > 1
    };
    for p in samples(8, 50) {
        for target in p.refcoco.iter().chain(&p.plus).chain(&p.long).chain(&p.general) {
            for said in &target.said {
                for away in [false, true] {
                    assert_eq!(read(&p.scene, &said.text, away), target.objects, "\"{}\" {away}", said.text);
                }
                let text = said.text.as_str();
                let has = |words: &[&str]| text.split(' ').any(|w| words.contains(&w));
                for (name, is) in [
                    ("sentence", true),
                    ("ordinal", has(&["second", "2nd", "third", "3rd"])),
                    ("two steps", two_steps(text)),
                    ("synonym", has(&["crimson", "disc", "tangerine", "wedge", "hoop", "cobalt", "tiny", "stripy"])),
                    ("far", text.contains("far left") || text.contains("far right")),
                    ("several", target.objects.len() > 1),
                    ("many", target.objects.len() > 2),
                    ("none", target.objects.is_empty()),
                    ("elsewhere", target.objects.is_empty() && has(&["left", "right", "above", "below", "front", "back"])),
                ] {
                    *seen.entry(name).or_default() += usize::from(is);
                }
            }
        }
    }
    assert!(seen["sentence"] > 12_000, "{seen:?}");
    for (name, least) in [
        ("ordinal", 300),
        ("two steps", 50),
        ("synonym", 2000),
        ("far", 100),
        ("several", 500),
        ("many", 80),
        ("none", 300),
        ("elsewhere", 50),
    ] {
        assert!(seen[name] >= least, "{name}: {seen:?}");
    }
}

#[test]
fn sentences_are_as_long_as_people_write() {
    let mut lengths = [(); 3].map(|()| Vec::new());
    let mut kinds: BTreeMap<SentenceKind, usize> = BTreeMap::new();
    for p in samples(4, 50) {
        for (lengths, set) in lengths.iter_mut().zip([&p.refcoco, &p.plus, &p.long]) {
            lengths.extend(set.iter().flat_map(|t| &t.said).map(|s| s.text.split(' ').count()));
        }
        p.refcoco.iter().flat_map(|t| &t.said).for_each(|s| *kinds.entry(s.kind.unwrap()).or_default() += 1);
        let placeless =
            ["left", "right", "top", "bottom", "middle", "center", "above", "below", "beneath", "back", "far", "second"];
        for said in p.plus.iter().flat_map(|t| &t.said) {
            assert!(said.text.split(' ').all(|w| !placeless.contains(&w)), "\"{}\"", said.text);
        }
    }
    let mean = |l: &[usize]| l.iter().sum::<usize>() as f64 / l.len() as f64;
    let [short, plus, long] = lengths;
    assert!((3.2..3.9).contains(&mean(&short)), "{}", mean(&short));
    assert!((3.0..3.9).contains(&mean(&plus)), "{}", mean(&plus));
    assert!((7.9..8.9).contains(&mean(&long)), "{}", mean(&long));
    let few = short.iter().filter(|l| **l <= 4).count() as f64 / short.len() as f64;
    assert!((0.65..0.85).contains(&few) && short.contains(&1) && short.iter().any(|l| *l > 8), "{few}");
    for kind in SentenceKind::ALL {
        assert!(kinds[&kind] as f64 >= 0.05 * short.len() as f64, "{kind}: {kinds:?}");
    }
}

#[test]
fn pieces_are_visible_and_shrink_with_distance() {
    let (mut counts, mut heights) = (BTreeMap::new(), [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]]);
    for p in samples(6, 50) {
        let s = &p.scene;
        *counts.entry(s.objects.len()).or_insert(0) += 1;
        for (i, o) in s.objects.iter().enumerate() {
            assert_eq!(o.whole, s.hidden[i].iter().all(|h| *h == 0.0));
            assert!(o.mask.area() > 40 && s.hidden[i].iter().sum::<f64>() < 0.8);
            for (j, front) in s.objects.iter().enumerate().filter(|(j, _)| s.hidden[i][*j] > 0.0) {
                assert!(front.centre.1 > o.centre.1, "{j} hides {i} from further away");
            }
            let away = usize::from(o.centre.1 * 2.0 < f64::from(s.height));
            heights[o.size as usize][away].push(o.radius / f64::from(s.width.max(s.height)));
        }
    }
    assert!((2..=6).all(|n| counts.get(&n).is_some_and(|c| *c > 10)) && counts.len() == 5, "{counts:?}");
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    for [near, away] in &heights {
        assert!(mean(away) < mean(near) * 0.93, "{} {}", mean(away), mean(near));
    }
    let ([small, _], [_, big]) = (&heights[Size::Small as usize], &heights[Size::Big as usize]);
    let (largest, least) = (small.iter().copied().fold(0.0, f64::max), big.iter().copied().fold(1.0, f64::min));
    assert!(largest < least, "a small one near by, {largest}, looks as big as a big one far off, {least}");
}

/// Colours under any light and table are nearer to their own name than to another's.
#[test]
fn colours_keep_their_names_in_the_light() {
    use super::super::scene::Colour;
    let (mut right, mut all, mut darker) = (0, 0, 0);
    let images = 120;
    let cfg = config(5, images);
    for i in 0..images {
        let p = sample(&cfg, i).unwrap();
        let pixels = super::render(&p.scene, p.arrangement.as_ref().unwrap(), &mut stream(&cfg, i, Stream::Pixels));
        assert_eq!(pixels.len(), (p.scene.width * p.scene.height * 3) as usize);
        for o in p.scene.objects.iter().filter(|o| o.shape != Shape::Ring) {
            let mask = o.mask.to_row_major();
            let inside = pixels.chunks_exact(3).zip(&mask).filter(|(_, m)| **m != 0).map(|(p, _)| p);
            let mut mean = [0.0; 3];
            inside.for_each(|p| (0..3).for_each(|k| mean[k] += f64::from(p[k]) / o.mask.area() as f64));
            let distance = |c: Colour| {
                let (main, other) = paint(c);
                let share = if o.texture == super::super::scene::Texture::Plain { 0.0 } else { 0.4 };
                (0..3).map(|k| (main[k] + (other[k] - main[k]) * share - mean[k]).powi(2)).sum::<f64>()
            };
            let best = Colour::ALL.iter().copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
            right += usize::from(best == o.colour);
            all += 1;
        }
        // Shadows: the darkest ground is well below the usual one.
        let covered = |at: usize| p.scene.objects.iter().any(|o| o.mask.to_row_major()[at] != 0);
        let mut ground: Vec<u8> =
            (0..pixels.len() / 3).step_by(17).filter(|at| !covered(*at)).map(|at| pixels[at * 3 + 1]).collect();
        ground.sort_unstable();
        darker += usize::from(f64::from(ground[ground.len() / 100]) < 0.8 * f64::from(ground[ground.len() / 2]));
    }
    assert!(right as f64 >= 0.95 * f64::from(all), "{right} of {all}");
    assert!(darker * 10 > images * 7, "{darker}");
}

#[test]
fn a_set_of_photographs_reads_back() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("set");
    let cfg = SynthConfig { format: SynthFormat::Multitask, ..config(2, 40) };
    generate(&cfg, &out).unwrap();
    let report = crate::verify_deep(&out).unwrap();
    assert!(report.is_ok() && report.warnings.is_empty(), "{report}");
    assert_eq!(generated_by(&out).unwrap(), Some(cfg.clone()));
    let set = Dataset::open(&DatasetSpec::new(&out, "refcoco"), "train").unwrap();
    let scenes: Vec<Scene> = (0..40).map(|i| sample(&cfg, i).unwrap().scene).collect();
    for r in &set.referents {
        let scene = &scenes[set.images[r.image].id as usize - 1];
        for s in &r.sentences {
            // A bare name of several means one of them, in the multi-task set only.
            let found = read(scene, &s.text, false);
            let bare = s.text.trim_start_matches("the ").split(' ').count() == 1;
            assert!(found.len() == 1 || (bare && found.len() > 1), "{}", s.text);
            assert!(found.iter().any(|object| scene.objects[*object].mask == r.mask), "{}", s.text);
        }
    }
    let phrases = temp.path().join("phrases");
    generate(&SynthConfig { format: SynthFormat::Phrasecut, ..config(2, 20) }, &phrases).unwrap();
    assert!(crate::verify_deep(&phrases).unwrap().is_ok());
}

#[test]
fn bytes_depend_on_the_seed_alone() {
    let temp = tempfile::tempdir().unwrap();
    let files = |name: &str, seed: u64, threads: usize| {
        let out = temp.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate(&config(seed, 12), &out)).unwrap();
        super::super::tests::files(&out)
    };
    let (one, three, other) = (files("one", 3, 1), files("three", 3, 3), files("other", 4, 3));
    assert!(one.len() > 20 && one == three && one != other);
}

#[test]
fn styles_and_their_settings() {
    let temp = tempfile::tempdir().unwrap();
    let refused = |cfg: SynthConfig| generate(&cfg, &temp.path().join("refused")).unwrap_err().to_string();
    let six = SynthConfig { max_objects: 6, ..SynthConfig::default() };
    assert!(refused(six).contains("must be 2 to 5"));
    assert!(refused(SynthConfig { max_objects: 7, ..config(0, 8) }).contains("must be 2 to 6"));
    // A note written before there were styles is a drawn set's, and drawn sets' notes stay as they were.
    let drawn = temp.path().join("drawn");
    let cfg = SynthConfig { images: 4, size: 48, ..SynthConfig::default() };
    generate(&cfg, &drawn).unwrap();
    let note = std::fs::read_to_string(drawn.join("synth.json")).unwrap();
    assert!(!note.contains("style"), "{note}");
    assert_eq!(generated_by(&drawn).unwrap(), Some(cfg));
    let text = serde_json::to_string(&config(0, 8)).unwrap();
    assert!(text.contains("\"style\":\"photo\""), "{text}");
}
