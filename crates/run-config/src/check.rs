//! Ranges and contradictions.

use refcoco_data::ItemPer;

use crate::sections::{PROMPT_PLACE, TRAIN_FROM_DATA};
use crate::{ConfigError, Every, LossSize, Method, PromptKind, RunConfig, ScheduleKind, Tokenizer, one_of};

/// Largest whole number that TOML can hold.
const LARGEST: u64 = i64::MAX as u64;
/// Largest canvas side that fits any attention the models have.
const LARGEST_SIDE: u32 = 4096;

/// Splits of the known data sets: name, who split it, splits.
const KNOWN_SPLITS: [(&str, &str, &[&str]); 15] = [
    ("refclef", "unc", &["train", "val", "testA", "testB", "testC"]),
    ("refclef", "berkeley", &["train", "test"]),
    ("refcoco", "unc", &["train", "val", "testA", "testB"]),
    ("refcoco", "google", &["train", "val", "test"]),
    ("refcoco+", "unc", &["train", "val", "testA", "testB"]),
    ("refcocog", "umd", &["train", "val", "test"]),
    ("refcocog", "google", &["train", "val"]),
    ("grefcoco", "unc", &["train", "val", "testA", "testB"]),
    ("phrasecut", "vg", &["train", "val", "test", "miniv", "val_miniv"]),
    ("ade20k", "challenge", &["train", "val"]),
    ("mapillary", "v2.0", &["train", "val"]),
    ("humanparsing", "atr", &["train"]),
    ("partimagenet", "seg", &["train", "val", "test"]),
    ("pascal_part", "vlpart", &["train", "val"]),
    ("objects365", "v1", &["train"]),
];

/// Sets that have classes instead of sentences: which ones an image has is known when it is loaded.
const SETS_OF_CLASSES: [&str; 6] = ["ade20k", "mapillary", "humanparsing", "partimagenet", "pascal_part", "objects365"];

impl RunConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.check_run()?;
        self.check_data()?;
        self.check_model()?;
        self.check_optim()?;
        self.check_schedule()?;
        self.check_train()?;
        self.check_eval()
    }

    /// Refuses `found` at `key` unless `right`.
    fn ensure(&self, right: bool, key: &str, found: impl ToString, expected: &str) -> Result<(), ConfigError> {
        if right { Ok(()) } else { Err(self.value_error(key, found, expected)) }
    }

    fn at_least_one(&self, key: &str, value: u64) -> Result<(), ConfigError> {
        self.ensure((1..=LARGEST).contains(&value), key, value, "a whole number, 1 or more")
    }

    fn whole(&self, key: &str, value: u64) -> Result<(), ConfigError> {
        self.ensure(value <= LARGEST, key, value, "a smaller whole number")
    }

    fn probability(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        self.ensure((0.0..=1.0).contains(&value), key, value, "a probability from 0 to 1")
    }

    fn not_negative(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        self.ensure(value.is_finite() && value >= 0.0, key, value, "a number, 0 or more")
    }

    fn side(&self, key: &str, value: u32) -> Result<(), ConfigError> {
        self.ensure((8..=LARGEST_SIDE).contains(&value), key, value, &format!("a side in pixels from 8 to {LARGEST_SIDE}"))
    }

    fn filled(&self, key: &str, value: &str) -> Result<(), ConfigError> {
        self.ensure(!value.trim().is_empty(), key, "empty", "a text that is not empty")
    }

    fn contradict(&self, first: &str, second: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Contradiction {
            first: first.to_owned(),
            second: second.to_owned(),
            origin: self.origin.of(first),
            problem: problem.into(),
        }
    }

    fn check_run(&self) -> Result<(), ConfigError> {
        let run = &self.run;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        self.ensure(
            !run.name.is_empty() && !run.name.starts_with('.') && run.name.chars().all(plain),
            "run.name",
            format!("{:?}", run.name),
            "a folder name of letters, digits, `-`, `_` and `.`, not beginning with `.`",
        )?;
        self.filled("run.dir", &run.dir.to_string_lossy())?;
        self.filled("run.device", &run.device)?;
        self.whole("run.seed", run.seed)?;
        match run.threads {
            Some(threads) => self.at_least_one("run.threads", threads as u64),
            None => Ok(()),
        }
    }

    fn check_data(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        self.filled("data.root", &data.root.to_string_lossy())?;
        self.filled("data.dataset", &data.dataset)?;
        self.filled("data.split_by", &data.split_by)?;
        self.filled("data.train_split", &data.train_split)?;
        self.ensure(!data.val_splits.is_empty(), "data.val_splits", "empty", "at least one split, for example [\"val\"]")?;
        self.check_splits()?;
        self.prompt("data.prompt", &data.prompt)?;
        self.at_least_one("data.rate", u64::from(data.rate))?;
        for (index, source) in data.also.iter().enumerate() {
            let key = |field: &str| format!("data.also[{index}].{field}");
            self.known_splits(&source.dataset, &source.split_by, &key("split_by"))?;
            if let Some(root) = &source.root {
                self.filled(&key("root"), &root.to_string_lossy())?;
            }
            self.prompt(&key("prompt"), &source.prompt)?;
            self.at_least_one(&key("rate"), u64::from(source.rate))?;
        }
        if SETS_OF_CLASSES.contains(&data.dataset.as_str()) && data.items != ItemPer::Image {
            let problem = format!("{} has classes, of which an image's are drawn together: items = \"image\"", data.dataset);
            return Err(self.contradict("data.dataset", "data.items", problem));
        }
        if !data.also.is_empty() && data.items != ItemPer::Image {
            return Err(self.contradict("data.also", "data.items", "several sets are mixed image by image: items = \"image\""));
        }
        self.side("data.image_size", data.image_size)?;
        self.ensure(
            (1..=64).contains(&data.expressions),
            "data.expressions",
            data.expressions,
            "a number of sentences from 1 to 64",
        )?;
        self.ensure(data.prefetch <= 64, "data.prefetch", data.prefetch, "a number of batches from 0 to 64")?;

        let augment = &data.augment;
        for (index, &side) in augment.long_sides.iter().enumerate() {
            let key = format!("data.augment.long_sides[{index}]");
            self.side(&key, side)?;
            if side > data.image_size {
                return Err(self.contradict(
                    &key,
                    "data.image_size",
                    format!("a long side of {side} does not fit on a canvas of {}", data.image_size),
                ));
            }
        }
        self.probability("data.augment.jitter", augment.jitter)?;
        self.probability("data.augment.jitter_strength", augment.jitter_strength)?;
        self.probability("data.augment.blur", augment.blur)?;
        self.probability("data.augment.flip", augment.flip)?;
        let [low, high] = augment.blur_sigma;
        self.ensure(
            low > 0.0 && low <= high && high <= 100.0,
            "data.augment.blur_sigma",
            format!("[{low}, {high}]"),
            "two numbers of pixels above 0, the smaller one first",
        )?;
        if let Some(synth) = &data.synth {
            self.at_least_one("data.synth.images", synth.images as u64)?;
            self.side("data.synth.size", synth.size)?;
            self.whole("data.synth.seed", synth.seed)?;
        }
        Ok(())
    }

    /// Names of splits, where the data set is a known one.
    fn check_splits(&self) -> Result<(), ConfigError> {
        let data = &self.data;
        let Some(splits) = self.known_splits(&data.dataset, &data.split_by, "data.split_by")? else { return Ok(()) };
        let named = std::iter::once(("data.train_split".to_owned(), &data.train_split))
            .chain(data.val_splits.iter().enumerate().map(|(index, split)| (format!("data.val_splits[{index}]"), split)));
        for (key, split) in named {
            let expected = format!("{} for {} ({})", one_of(splits), data.dataset, data.split_by);
            self.ensure(splits.contains(&split.as_str()), &key, format!("{split:?}"), &expected)?;
        }
        Ok(())
    }

    /// The splits of a set that is a known one; refuses `split_by`, which stands at `key`, if the set has none of that name.
    fn known_splits(&self, dataset: &str, split_by: &str, key: &str) -> Result<Option<&'static [&'static str]>, ConfigError> {
        let known: Vec<_> = KNOWN_SPLITS.iter().filter(|k| k.0 == dataset).collect();
        match known.iter().find(|k| k.1 == split_by) {
            Some((_, _, splits)) => Ok(Some(splits)),
            None if known.is_empty() => Ok(None),
            None => {
                let makers: Vec<&str> = known.iter().map(|k| k.1).collect();
                let expected = format!("{} for {dataset}", one_of(&makers));
                Err(self.value_error(key, format!("{split_by:?}"), expected))
            }
        }
    }

    fn prompt(&self, key: &str, prompt: &str) -> Result<(), ConfigError> {
        let expected = "a text with one {}, where the sentence or the name of the class goes";
        self.ensure(prompt.matches(PROMPT_PLACE).count() == 1, key, format!("{prompt:?}"), expected)
    }

    fn check_model(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        for (method, table) in model.tables() {
            if table.is_some() && method != model.method {
                let chosen = model.method.name();
                return Err(self.contradict(
                    &format!("model.{}", method.name()),
                    "model.method",
                    format!("the method is \"{chosen}\"; use [model.{chosen}] or change the method"),
                ));
            }
        }
        for (key, patterns) in [("model.freeze", &model.freeze), ("model.train", &model.train)] {
            for (index, pattern) in patterns.iter().enumerate() {
                self.filled(&format!("{key}[{index}]"), pattern)?;
            }
        }
        if model.freeze.is_empty() && !model.train.is_empty() {
            return Err(self.contradict(
                "model.train",
                "model.freeze",
                "`train` lists exceptions from `freeze`, which is empty; freeze = [\"*\"] freezes all others",
            ));
        }
        if !self.train.multi_scale.is_empty() && model.method != Method::Dit {
            let problem = format!("\"{}\" needs the side that data.image_size says", model.method.name());
            return Err(self.contradict("train.multi_scale", "model.method", problem));
        }
        if self.train.loss_size == LossSize::Original && model.method != Method::Evf {
            let problem = format!("\"{}\" compares masks on the canvas", model.method.name());
            return Err(self.contradict("train.loss_size", "model.method", problem));
        }
        let asked = [("train.prompts", self.train.prompts.as_slice()), ("eval.prompt", &[self.eval.prompt])];
        for (key, kinds) in asked {
            if model.method != Method::Dit && kinds.iter().any(|kind| *kind != PromptKind::Text) {
                let problem = format!("only \"dit\" takes points and boxes, \"{}\" takes text", model.method.name());
                return Err(self.contradict(key, "model.method", problem));
            }
        }
        let text = &self.text;
        self.filled("text.vocabulary", &text.vocabulary)?;
        if text.vocabulary_from_weights() && model.init.method.is_none() {
            let problem = "they are not given: the vocabulary would lie beside them";
            return Err(self.contradict("text.vocabulary", "model.init.method", problem));
        }
        if text.vocabulary == TRAIN_FROM_DATA && text.tokenizer != Tokenizer::Wordpiece {
            return Err(self.contradict(
                "text.vocabulary",
                "text.tokenizer",
                format!("only \"wordpiece\" can be \"{TRAIN_FROM_DATA}\"; name the vocabulary's file"),
            ));
        }
        if !text.added_tokens.is_empty() && text.tokenizer != Tokenizer::Sentencepiece {
            let problem =
                format!("\"{}\" cuts them into its own pieces; only \"sentencepiece\" takes more", text.tokenizer.name());
            return Err(self.contradict("text.added_tokens", "text.tokenizer", problem));
        }
        let most = "at most 8 texts, for which BEiT-3's table of 64010 rows has place";
        self.ensure(text.added_tokens.len() <= 8, "text.added_tokens", text.added_tokens.len(), most)?;
        for (index, token) in text.added_tokens.iter().enumerate() {
            self.filled(&format!("text.added_tokens[{index}]"), token)?;
        }
        self.ensure(
            (3..=1024).contains(&text.max_tokens),
            "text.max_tokens",
            text.max_tokens,
            "a number of tokens from 3 to 1024",
        )
    }

    fn check_optim(&self) -> Result<(), ConfigError> {
        let optim = &self.optim;
        self.ensure(optim.lr > 0.0 && optim.lr <= 1.0, "optim.lr", optim.lr, "a learning rate above 0 and at most 1")?;
        for (index, beta) in optim.betas.into_iter().enumerate() {
            self.ensure((0.0..1.0).contains(&beta), &format!("optim.betas[{index}]"), beta, "a number from 0 up to, but not, 1")?;
        }
        self.ensure(optim.eps > 0.0 && optim.eps < 1.0, "optim.eps", optim.eps, "a number between 0 and 1")?;
        self.not_negative("optim.weight_decay", optim.weight_decay)?;
        self.not_negative("optim.grad_clip", optim.grad_clip)?;
        self.at_least_one("optim.accumulate", optim.accumulate as u64)?;
        for (index, group) in optim.groups.iter().enumerate() {
            let key = |field: &str| format!("optim.groups[{index}].{field}");
            self.filled(&key("pattern"), &group.pattern)?;
            self.not_negative(&key("lr_scale"), group.lr_scale)?;
            self.not_negative(&key("weight_decay"), group.weight_decay.unwrap_or(0.0))?;
            if let Some(decay) = group.layer_decay {
                self.ensure(decay > 0.0 && decay <= 1.0, &key("layer_decay"), decay, "a factor above 0 and at most 1")?;
            }
        }
        Ok(())
    }

    fn check_schedule(&self) -> Result<(), ConfigError> {
        let (schedule, train, lr) = (&self.schedule, &self.train, self.optim.lr);
        let kind = schedule.kind.name();
        let (epochs, steps) = ("schedule.warmup_epochs", "schedule.warmup_steps");
        if schedule.warmup_epochs.is_some() && schedule.warmup_steps.is_some() {
            return Err(self.contradict(epochs, steps, "give the warm-up in one of them"));
        }
        for (key, value, of, length) in [
            (epochs, schedule.warmup_epochs, "train.epochs", train.epochs),
            (steps, schedule.warmup_steps, "train.steps", train.steps),
        ] {
            let Some(value) = value else { continue };
            self.whole(key, value)?;
            if value > 0 && !schedule.kind.warms_up() {
                return Err(self.contradict(key, "schedule.kind", format!("\"{kind}\" has no warm-up")));
            }
            if let Some(length) = length.filter(|&length| value > 0 && value >= length) {
                return Err(self.contradict(key, of, format!("a warm-up of {value} fills the run of {length}")));
            }
        }
        for (key, value) in [("schedule.warmup_lr", schedule.warmup_lr), ("schedule.min_lr", schedule.min_lr)] {
            self.not_negative(key, value)?;
            let used = matches!(schedule.kind, ScheduleKind::WarmupCosine | ScheduleKind::WarmupLinear);
            if used && value > lr {
                return Err(self.contradict(key, "optim.lr", format!("{value} is above the top of {lr}")));
            }
        }
        self.ensure(
            schedule.decay_rate > 0.0 && schedule.decay_rate <= 1.0,
            "schedule.decay_rate",
            schedule.decay_rate,
            "a factor above 0 and at most 1",
        )?;
        let decay = &schedule.decay_epochs;
        self.ensure(
            decay.windows(2).all(|pair| pair[0] < pair[1]) && decay.iter().all(|&e| (1..=LARGEST).contains(&e)),
            "schedule.decay_epochs",
            format!("{decay:?}"),
            "epochs from 1 on, each later than the one before",
        )?;
        if schedule.kind.has_decay_epochs() == decay.is_empty() {
            let problem = if decay.is_empty() {
                format!("\"{kind}\" needs the epochs at which the rate is lowered")
            } else {
                format!("\"{kind}\" has no decay epochs; leave them out or choose \"step\" or \"warmup-step\"")
            };
            return Err(self.contradict("schedule.decay_epochs", "schedule.kind", problem));
        }
        Ok(())
    }

    fn check_train(&self) -> Result<(), ConfigError> {
        let train = &self.train;
        self.at_least_one("train.batch_size", train.batch_size as u64)?;
        if train.epochs.is_some() && train.steps.is_some() {
            return Err(self.contradict("train.epochs", "train.steps", "give the run's length in one of them"));
        }
        for (key, value) in [
            ("train.epochs", train.epochs),
            ("train.steps", train.steps),
            ("train.stop_after", train.stop_after),
            ("train.log_every", Some(train.log_every)),
            ("train.keep", Some(train.keep as u64)),
        ] {
            value.map_or(Ok(()), |value| self.at_least_one(key, value))?;
        }
        for (key, every) in [("train.eval_every", train.eval_every), ("train.save_every", train.save_every)] {
            if let Every::Steps(steps) = every {
                self.whole(key, steps)?;
            }
        }
        for (index, &side) in train.multi_scale.iter().enumerate() {
            self.side(&format!("train.multi_scale[{index}]"), side)?;
        }
        self.ensure(!train.prompts.is_empty(), "train.prompts", "empty", "at least one of \"text\", \"points\" and \"box\"")?;
        if let Some(minutes) = train.time_limit_minutes {
            self.ensure(
                minutes.is_finite() && minutes > 0.0,
                "train.time_limit_minutes",
                minutes,
                "a number of minutes above 0",
            )?;
        }
        if let Some(lora) = &train.lora {
            self.ensure((1..=1024).contains(&lora.rank), "train.lora.rank", lora.rank, "a rank from 1 to 1024")?;
            let right = lora.alpha.is_finite() && lora.alpha > 0.0;
            self.ensure(right, "train.lora.alpha", lora.alpha, "a number above 0")?;
            let none = "patterns of names, such as [\"*\"] for all linear layers";
            self.ensure(!lora.parts.is_empty(), "train.lora.parts", "empty", none)?;
            for (index, pattern) in lora.parts.iter().enumerate() {
                self.filled(&format!("train.lora.parts[{index}]"), pattern)?;
            }
        }
        let decay = train.ema.decay;
        self.ensure((0.0..1.0).contains(&decay), "train.ema.decay", decay, "a number from 0 up to, but not, 1")
    }

    fn check_eval(&self) -> Result<(), ConfigError> {
        let eval = &self.eval;
        if let Some(threshold) = eval.threshold {
            self.ensure(threshold > 0.0 && threshold < 1.0, "eval.threshold", threshold, "a probability between 0 and 1")?;
        }
        if eval.shuffled_text && eval.prompt != PromptKind::Text {
            return Err(self.contradict("eval.shuffled_text", "eval.prompt", "only text can be exchanged"));
        }
        self.at_least_one("eval.batch_size", eval.batch_size as u64)?;
        if let Some(limit) = eval.limit {
            self.at_least_one("eval.limit", limit as u64)?;
        }
        self.ensure(eval.figures <= 200, "eval.figures", eval.figures, "a number from 0 to 200")
    }
}
