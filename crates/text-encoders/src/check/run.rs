//! Running one golden case.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use nn_ops::formula;
use nn_ops::resize::Resize;
use nn_ops::weights::{KeyMap, load_formula};

use super::spec::{Beit3Spec, BertSpec, ClipTextSpec, ClipVisionSpec, PHOTO, Spec, Tokens, ViltSpec};
use super::{Case, CaseOutput, CheckError, wrong};
use crate::beit3::{Beit3, Beit3Config};
use crate::bert::Bert;
use crate::clip::{ClipText, ClipVision};
use crate::vilt::Vilt;
use crate::{TextBatch, TextError};

/// Collects the outputs of a case.
struct Run<'a> {
    case: &'a Case,
    device: &'a Device,
    stored: &'a dyn Fn(&str) -> bool,
    outputs: Vec<CaseOutput>,
}

pub(super) fn run(case: &Case, device: &Device, stored: &dyn Fn(&str) -> bool) -> Result<Vec<CaseOutput>, CheckError> {
    let mut run = Run { case, device, stored, outputs: Vec::new() };
    match &case.spec {
        Spec::Bert(spec) => run.bert(spec),
        Spec::ClipText(spec) => run.clip_text(spec),
        Spec::ClipVision(spec) => run.clip_vision(spec),
        Spec::Vilt(spec) => run.vilt(spec),
        Spec::Beit3(spec) => run.beit3(spec),
        Spec::Resize => run.resize(),
    }?;
    Ok(run.outputs)
}

impl Run<'_> {
    fn bert(&mut self, spec: &BertSpec) -> Result<(), CheckError> {
        let config = spec.config();
        config.validate().map_err(|e| self.text(e.into()))?;
        let model = self.fill(config.init(self.device), &Bert::names().with_prefix(&spec.prefix), spec.parameters)?;
        let layers = model.layer_outputs(&self.batch(&spec.tokens)?, model.depth()).map_err(|e| self.text(e))?;
        for (name, layer) in [("layer1", layers.first()), ("last", layers.last())] {
            if let Some(layer) = layer {
                self.put(name, layer.clone())?;
            }
        }
        Ok(())
    }

    fn clip_text(&mut self, spec: &ClipTextSpec) -> Result<(), CheckError> {
        let config = spec.config();
        config.validate().map_err(|e| self.text(e.into()))?;
        let model = self.fill(config.init(self.device), &ClipText::names().with_prefix(&spec.prefix), spec.parameters)?;
        let batch = self.batch(&spec.tokens)?;
        let tokens = model.tokens(&batch).map_err(|e| self.text(e))?;
        self.put("pooled", model.pool(tokens.clone(), &batch))?;
        // Real tokens only, in order.
        let places = (0..batch.rows()).flat_map(|row| (0..batch.lengths()[row]).map(move |place| (row, place)));
        let kept: Vec<i32> = places.map(|(row, place)| (row * batch.width() + place) as i32).collect();
        let count = kept.len();
        let kept = Tensor::<1, Int>::from_data(TensorData::new(kept, [count]), self.device);
        let [rows, width, channels] = tokens.dims();
        self.put("tokens", tokens.reshape([rows * width, channels]).select(0, kept))
    }

    fn clip_vision(&mut self, spec: &ClipVisionSpec) -> Result<(), CheckError> {
        let config = spec.config();
        config.validate().map_err(|e| self.text(e.into()))?;
        let names = ClipVision::names().with_prefix(&spec.prefix);
        let model = self.fill(config.init(self.device), &names, spec.parameters)?;
        let tokens = model.tokens(self.input("in.clip_image")?).map_err(|e| self.text(e))?;
        self.put("pooled", model.pool(tokens.clone()))?;
        self.put("tokens", tokens)
    }

    fn vilt(&mut self, spec: &ViltSpec) -> Result<(), CheckError> {
        let config = spec.config();
        config.validate().map_err(|e| self.text(e.into()))?;
        let model = self.fill(config.init(self.device), &Vilt::names().with_prefix(&spec.prefix), spec.parameters)?;
        let batch = self.batch(&spec.tokens)?;
        let features = model.joint(self.input("in.vilt_image")?, &batch).map_err(|e| self.text(e))?;
        self.put("cls", features.cls())?;
        let longest = batch.lengths().iter().copied().max().unwrap_or(0);
        self.put("text_tokens", features.text.narrow(1, 0, longest))
    }

    fn beit3(&mut self, spec: &Beit3Spec) -> Result<(), CheckError> {
        let config = spec.config();
        config.validate().map_err(|e| self.text(e.into()))?;
        let names = Beit3::names().with_prefix("beit3.");
        let model = self.fill(config.init(self.device), &names, spec.parameters)?;
        let batch = TextBatch::from_padded(&spec.token_ids, &spec.lengths()).map_err(|e| self.text(e))?;
        let image = self.image_of(&config, batch.rows())?;
        if self.wants("joint") || self.wants("cls") {
            // One image a text, or one for all.
            let rows: Vec<usize> = (0..batch.rows()).map(|row| row.min(image.dims()[0] - 1)).collect();
            let features = model.joint(image.clone(), &batch, &rows).map_err(|e| self.text(e))?;
            self.put_some("joint", features.sequence())?;
            self.put_some("cls", features.image_cls())?;
        }
        if self.wants("text_only") {
            let features = model.text_only(&batch).map_err(|e| self.text(e))?;
            self.put_some("text_only", features.text)?;
        }
        if self.wants("vision_only") {
            let features = model.vision_only(image).map_err(|e| self.text(e))?;
            self.put_some("vision_only", features.vision)?;
        }
        Ok(())
    }

    fn resize(&mut self) -> Result<(), CheckError> {
        let side = Beit3Config::default().image_size;
        let resized = Resize::BICUBIC.forward(self.input(PHOTO)?, [side, side]);
        self.emit(self.case.name.clone(), resized)
    }

    fn fill<M: Module>(&self, model: M, names: &KeyMap, expected: usize) -> Result<M, CheckError> {
        let (model, found) = load_formula(model, &self.case.seed, names);
        if found == expected {
            return Ok(model);
        }
        Err(CheckError::Parameters { case: self.case.name.clone(), found, expected })
    }

    fn batch(&self, tokens: &Tokens) -> Result<TextBatch, CheckError> {
        let lengths: Vec<usize> = tokens.mask.iter().map(|row| row.iter().take_while(|m| **m == 1).count()).collect();
        if tokens.mask.iter().zip(&lengths).any(|(row, &length)| row[length..].contains(&1)) {
            return Err(wrong(&self.case.name, "has a mask with padding before a token"));
        }
        TextBatch::from_padded(&tokens.token_ids, &lengths).map_err(|e| self.text(e))
    }

    fn input(&self, name: &str) -> Result<Tensor<4>, CheckError> {
        let missing = |what: String| CheckError::Input { case: self.case.name.clone(), what };
        let input = self.case.inputs.get(name).ok_or_else(|| missing(format!("an input `{name}`")))?;
        let super::Input(shape, center, amp) = input;
        let shape: [usize; 4] =
            shape.as_slice().try_into().map_err(|_| missing(format!("`{name}` with four axes, not {shape:?}")))?;
        let values = formula::tensor(&self.case.seed, name, &shape, *center, *amp);
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    /// The image input whose side fits a BEiT-3, an image a text or one for all.
    fn image_of(&self, config: &Beit3Config, rows: usize) -> Result<Tensor<4>, CheckError> {
        let fits = [rows, 3, config.image_size, config.image_size];
        let like = |shape: &[usize]| shape.len() == 4 && shape[1..] == fits[1..] && (shape[0] == rows || shape[0] == 1);
        let found = self.case.inputs.iter().find(|(name, input)| name.starts_with("in.image") && like(&input.0));
        match found {
            Some((name, _)) => self.input(name),
            None => {
                Err(CheckError::Input { case: self.case.name.clone(), what: format!("an input `in.image*` of shape {fits:?}") })
            }
        }
    }

    fn text(&self, source: TextError) -> CheckError {
        CheckError::Text { case: self.case.name.clone(), source }
    }

    fn wants(&self, output: &str) -> bool {
        (self.stored)(&format!("{}.{output}", self.case.name))
    }

    fn put_some<const D: usize>(&mut self, output: &str, tensor: Option<Tensor<D>>) -> Result<(), CheckError> {
        tensor.map_or(Ok(()), |tensor| self.put(output, tensor))
    }

    fn put<const D: usize>(&mut self, output: &str, tensor: Tensor<D>) -> Result<(), CheckError> {
        self.emit(format!("{}.{output}", self.case.name), tensor)
    }

    fn emit<const D: usize>(&mut self, name: String, tensor: Tensor<D>) -> Result<(), CheckError> {
        if !(self.stored)(&name) {
            return Ok(());
        }
        let shape = tensor.dims().to_vec();
        let lost = |e| CheckError::Read { name: name.clone(), what: format!("{e}") };
        let values = tensor.try_into_vec_as::<f32>().map_err(lost)?;
        let step = self.case.thin.get(&name).copied().unwrap_or(1).max(1);
        self.outputs.push(CaseOutput { name, shape, values: values.into_iter().step_by(step).collect() });
        Ok(())
    }
}
