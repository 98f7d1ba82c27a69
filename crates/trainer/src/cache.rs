//! What a frozen image encoder makes of each image, computed once and kept on disk.
//!
//! ```text
//! FOLDER/KEY/cache.json             what the key stands for
//! FOLDER/KEY/IMAGE.safetensors      f16 tensors 0, 1, ... of one image; their SHA-256 in the metadata
//! ```
//!
//! The key is a hash of the frozen weights, of the settings that the frozen part depends on and of the preprocessing, so that nothing
//! stale is ever read, and runs that differ elsewhere share what is kept. Files are written whole and renamed: a run that was stopped
//! goes on where it was.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use half::f16;
use nn_ops::weights::{parameters, trained};
use rayon::prelude::*;
use refcoco_data::{DataError, Dataset, Draw, ImageCache, Item, Target, Transform};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::batch::{HostTensor, Inputs};
use crate::data::EvalData;
use crate::error::TrainError;
use crate::event::{Event, OnEvent};
use crate::items::host_batch;
use crate::segmenter::Segmenter;
use models::manifest::hex;
use models::run_dir::write_whole;
use run_config::RunConfig;

/// Images read together.
const TOGETHER: usize = 8;
/// The config's key.
const KEY: &str = "train.feature_cache";
/// Key of the checksum in a file's metadata.
const SUM: &str = "sha256";

/// Kept features of a data set's images.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
    /// File name of each image of the data set.
    names: Vec<String>,
    /// What the key stands for.
    settings: Vec<u8>,
}

impl FeatureCache {
    /// The cache that the config asks for, of images that are trained on, filled: images that are not there yet are computed. The size
    /// is told before.
    ///
    /// # Errors
    /// A method without a frozen image encoder, training that changes images, a system that refuses.
    pub fn prepare<S: Segmenter>(
        segmenter: &S,
        net: &S::Net,
        run_config: &RunConfig,
        data: &Dataset,
        device: &Device,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let Some(folder) = &run_config.train.feature_cache else { return Ok(None) };
        let wrong = |expected: String| run_config.value_error(KEY, folder.display(), expected);
        let Some(prefix) = segmenter.frozen_prefix() else {
            let method = run_config.model.method.name();
            return Err(wrong(format!("nothing, for in \"{method}\" as configured no image encoder stays the same")).into());
        };
        if let Some(moving) = trained(net, &segmenter.names()).into_iter().find(|p| p.name.starts_with(prefix)) {
            return Err(wrong(format!("nothing, for {} is trained", moving.name)).into());
        }
        if run_config.data.augment != refcoco_data::Augment::default() {
            return Err(wrong("nothing, for data.augment changes the images in every epoch".into()).into());
        }
        let mut shown = vec![false; data.images.len()];
        data.referents.iter().map(|r| r.image).chain(data.class_images.iter().map(|c| c.image)).for_each(|i| shown[i] = true);
        let used: Vec<usize> = (0..shown.len()).filter(|image| shown[*image]).collect();
        Self::filled(segmenter, net, run_config, (data, &used), device, on_event)
    }

    /// As [`FeatureCache::prepare`], of the images that a split is judged on.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn prepare_to_judge<S: Segmenter>(
        segmenter: &S,
        net: &S::Net,
        run_config: &RunConfig,
        data: &EvalData,
        device: &Device,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Option<Self>, TrainError> {
        Self::filled(segmenter, net, run_config, (&data.dataset, &data.images()), device, on_event)
    }

    fn filled<S: Segmenter>(
        segmenter: &S,
        net: &S::Net,
        run_config: &RunConfig,
        (data, used): (&Dataset, &[usize]),
        device: &Device,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let Some(cache) = Self::open(segmenter, net, run_config, data)? else { return Ok(None) };
        std::fs::create_dir_all(&cache.folder)
            .map_err(|e| TrainError::File { path: cache.folder.clone(), what: e.to_string() })?;
        write_whole(&cache.folder.join("cache.json"), &cache.settings)?;
        cache.fill(segmenter, &net.valid(), run_config, (data, used), device, on_event)?;
        Ok(Some(cache))
    }

    /// What is kept already of a data set's images, if the config asks for a cache and the method has a frozen image encoder.
    ///
    /// # Errors
    /// Settings of the method that cannot be read.
    pub fn open<S: Segmenter>(
        segmenter: &S,
        net: &S::Net,
        run_config: &RunConfig,
        data: &Dataset,
    ) -> Result<Option<Self>, TrainError> {
        let (Some(folder), Some(prefix)) = (&run_config.train.feature_cache, segmenter.frozen_prefix()) else { return Ok(None) };
        let normalisation = segmenter.inputs().normalisation;
        let settings = serde_json::json!({
            "weights": digest(net, segmenter, prefix),
            "method": run_config.model.method.name(),
            "settings": segmenter.frozen_settings(),
            "image_size": run_config.data.image_size,
            "fit": run_config.data.fit,
            "normalisation": { "mean": normalisation.mean, "std": normalisation.std },
        });
        let settings = serde_json::to_vec_pretty(&settings).unwrap_or_default();
        let folder = folder.join(&hex(&Sha256::digest(&settings))[..16]);
        Ok(Some(Self { names: data.images.iter().map(|info| name(&info.path)).collect(), folder, settings }))
    }

    fn fill<S: Segmenter>(
        &self,
        segmenter: &S,
        net: &S::Net,
        run_config: &RunConfig,
        (data, used): (&Dataset, &[usize]),
        device: &Device,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), TrainError> {
        let new: Vec<usize> = used.iter().copied().filter(|image| !self.has(*image)).collect();
        let transform = Transform::eval(run_config.data.image_size as usize, run_config.data.fit)?;
        let transform = transform.with_photo(segmenter.inputs().canvas.is_some());
        let images = ImageCache::new(0);
        // The features are of the canvas alone.
        let canvas = Inputs { photo: None, ..segmenter.inputs() };
        let mut done = 0;
        for group in new.chunks(TOGETHER) {
            let alone = |image: &usize| Draw::Item(Item { target: Target::Image(*image), key: 0 });
            let draws: Vec<Draw> = group.iter().map(alone).collect();
            let (_, batch) = host_batch(data, &draws, &transform, &images, &canvas)?;
            let mut features = Vec::with_capacity(group.len());
            for row in 0..group.len() {
                // One at a time: sums over several images may round otherwise, and what is kept must not depend on what was there.
                let tensors = segmenter.features(net, batch.image(row, device))?;
                features.push(tensors.into_iter().map(rows).collect::<Result<Vec<_>, _>>()?.concat());
            }
            let written = group.par_iter().zip(&features).map(|(image, of)| self.write(*image, of));
            let bytes: Vec<usize> = written.collect::<Result<_, _>>()?;
            if done == 0 {
                let each = bytes[0] as f64 / 1e6;
                on_event(Event::Note(format!(
                    "{}: {} of {} images to compute, {each:.2} MB each, {:.1} MB in all",
                    self.folder.display(),
                    new.len(),
                    used.len(),
                    each * used.len() as f64,
                )));
            }
            done += bytes.len();
            on_event(Event::Caching { done, of: new.len() });
        }
        Ok(())
    }

    /// The features of some images, by their index in [`Dataset::images`].
    ///
    /// # Errors
    /// A file that is missing, cut or changed.
    pub fn read(&self, images: &[usize]) -> Result<Vec<Vec<HostTensor>>, DataError> {
        images.par_iter().map(|image| read(&self.path(*image))).collect()
    }

    /// As [`FeatureCache::read`]; empty for images that are not kept.
    ///
    /// # Errors
    /// A file that is cut or changed.
    pub fn read_kept(&self, images: &[usize]) -> Result<Vec<Vec<HostTensor>>, DataError> {
        images.par_iter().map(|image| if self.has(*image) { read(&self.path(*image)) } else { Ok(Vec::new()) }).collect()
    }

    /// Whether an image's features are kept.
    pub fn has(&self, image: usize) -> bool {
        self.path(image).exists()
    }

    fn path(&self, image: usize) -> PathBuf {
        self.folder.join(&self.names[image])
    }

    /// Writes the features of one image; the number of bytes.
    fn write(&self, image: usize, features: &[HostTensor]) -> Result<usize, TrainError> {
        let path = self.path(image);
        let wrong = |what: String| TrainError::File { path: path.clone(), what };
        if features.iter().any(|f| !fits_half(f)) {
            return Err(wrong(BEYOND_HALF.into()));
        }
        let bytes: Vec<Vec<u8>> =
            features.iter().map(|f| f.values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()).collect();
        let views = features.iter().zip(&bytes).enumerate().map(|(k, (f, b))| {
            Ok((k.to_string(), TensorView::new(Dtype::F16, f.shape.to_vec(), b).map_err(|e| wrong(e.to_string()))?))
        });
        let views: Vec<_> = views.collect::<Result<_, TrainError>>()?;
        let sum = hex(&Sha256::digest(bytes.concat()));
        let file =
            safetensors::serialize(views, Some(HashMap::from([(SUM.to_owned(), sum)]))).map_err(|e| wrong(e.to_string()))?;
        write_whole(&path, &file)?;
        Ok(file.len())
    }
}

const BEYOND_HALF: &str = "a feature is beyond half precision; leave train.feature_cache out";

fn fits_half(tensor: &HostTensor) -> bool {
    tensor.values.iter().all(|v| f16::from_f32(*v).is_finite())
}

/// Features as they come back from a file.
pub(crate) fn rounded(tensor: HostTensor) -> Result<HostTensor, TrainError> {
    if !fits_half(&tensor) {
        return Err(TrainError::Device { what: "features", reason: BEYOND_HALF.into() });
    }
    Ok(HostTensor { values: tensor.values.into_iter().map(|v| f16::from_f32(v).to_f32()).collect(), ..tensor })
}

/// Reads and checks one file.
fn read(path: &Path) -> Result<Vec<HostTensor>, DataError> {
    let bad = |reason: String| DataError::Kept {
        path: path.to_owned(),
        reason: format!("{reason}; remove the file to have it made again"),
    };
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    let mut sum = Sha256::new();
    let mut found = Vec::with_capacity(tensors.len());
    for k in 0..tensors.len() {
        let view = tensors.tensor(&k.to_string()).map_err(|e| bad(e.to_string()))?;
        let shape =
            <[usize; 4]>::try_from(view.shape()).map_err(|_| bad(format!("tensor {k} has the shape {:?}", view.shape())))?;
        if view.dtype() != Dtype::F16 || shape[0] != 1 {
            return Err(bad(format!("tensor {k} is {:?} of shape {shape:?}, not F16 of one row", view.dtype())));
        }
        sum.update(view.data());
        let values = view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        found.push(HostTensor { values, shape });
    }
    let said = header.metadata().as_ref().and_then(|m| m.get(SUM));
    if found.is_empty() || said != Some(&hex(&sum.finalize())) {
        return Err(bad("its content does not have its checksum".into()));
    }
    Ok(found)
}

/// A batch of features as one host tensor an image.
pub(crate) fn rows(batch: Tensor<4>) -> Result<Vec<HostTensor>, TrainError> {
    let [count, a, b, c] = batch.dims();
    let lost = |e| TrainError::Device { what: "features", reason: format!("{e}") };
    let values = batch.try_into_vec_as::<f32>().map_err(lost)?;
    Ok(values.chunks(a * b * c).take(count).map(|row| HostTensor { values: row.to_vec(), shape: [1, a, b, c] }).collect())
}

/// An image's file: its name for people, a hash of its path, size and time for the rest.
fn name(path: &Path) -> String {
    let state = path.metadata().ok();
    let time = state.as_ref().and_then(|m| m.modified().ok()).and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let identity = format!("{} {:?} {time:?}", path.display(), state.map(|m| m.len()));
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{stem}-{}.safetensors", &hex(&Sha256::digest(identity))[..12])
}

/// SHA-256 over names, shapes and values of the parameters whose official name begins with `prefix`.
fn digest<S: Segmenter>(net: &S::Net, segmenter: &S, prefix: &str) -> String {
    struct Hasher {
        names: std::vec::IntoIter<String>,
        prefix: String,
        hash: Sha256,
    }
    impl ModuleVisitor for Hasher {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(name) = self.names.next().filter(|n| n.starts_with(&self.prefix)) else { return };
            let data = param.val().into_data();
            self.hash.update(format!("{name} {:?}", data.shape()));
            self.hash.update(data.as_bytes());
        }
    }
    let names: Vec<String> = parameters(net, &segmenter.names()).into_iter().map(|p| p.name).collect();
    let mut hasher = Hasher { names: names.into_iter(), prefix: prefix.to_owned(), hash: Sha256::new() };
    net.visit(&mut hasher);
    hex(&hasher.hash.finalize())
}
