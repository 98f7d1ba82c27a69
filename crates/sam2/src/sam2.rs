//! The whole model, and what joins its parts: features, decoding, object pointers, memories.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, DType, Device, Tensor};
use nn_ops::resize::Resize;
use sam_vit::{Mlp, PromptEncoder, Prompts};

use crate::config::{STRIDE, Sam2Config, input_multiple};
use crate::error::Sam2Error;
use crate::features::Features;
use crate::image_encoder::ImageEncoder;
use crate::mask_decoder::{Answer, Decoded, MaskDecoder};
use crate::memory_attention::MemoryAttention;
use crate::memory_encoder::MemoryEncoder;

/// Logit of every pixel of an object that is not there.
pub const NO_OBJECT_LOGIT: f32 = -1024.0;
/// A mask in 0..1 goes into the memory encoder times this ..
const MEMORY_SCALE: f32 = 20.0;
/// .. plus this.
const MEMORY_BIAS: f32 = -10.0;

/// Segment Anything 2. Fields have the names of the released checkpoints.
#[derive(Module, Debug)]
pub struct Sam2 {
    /// Image encoder.
    pub image_encoder: ImageEncoder,
    /// Prompt encoder.
    pub sam_prompt_encoder: PromptEncoder,
    /// Mask decoder.
    pub sam_mask_decoder: MaskDecoder,
    /// Conditions a frame on memories.
    pub memory_attention: MemoryAttention,
    /// Makes memories.
    pub memory_encoder: MemoryEncoder,
    /// From a mask token to an object pointer.
    pub obj_ptr_proj: Mlp,
    /// Brings a given mask to a mask prompt's size, 4 x 4, stride 4.
    pub mask_downsample: Conv2d,
    /// What tells memories of different age apart, [7, 1, 1, 64]; the last row is that of prompted frames.
    pub maskmem_tpos_enc: Param<Tensor<4>>,
    /// Added to features that meet no memory, [1, 1, C].
    pub no_mem_embed: Param<Tensor<3>>,
    /// Unused by the released model, but in its files, [1, 1, C].
    pub no_mem_pos_enc: Param<Tensor<3>>,
    /// Pointer of an object that is not there, [1, C].
    pub no_obj_ptr: Param<Tensor<2>>,
    /// SAM 2.1: added to the memory of a frame without the object, [1, 64].
    pub no_obj_embed_spatial: Option<Param<Tensor<2>>>,
    /// SAM 2.1: from the age of a pointer to its position.
    pub obj_ptr_tpos_proj: Option<Linear>,
    image_size: usize,
    pointers: usize,
}

impl Sam2Config {
    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> Sam2 {
        let (c, m) = (self.channels, self.memory_channels);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Sam2 {
            image_encoder: ImageEncoder::new(self, device),
            sam_prompt_encoder: PromptEncoder::new(&self.sam(), device),
            sam_mask_decoder: MaskDecoder::new(self, device),
            memory_attention: MemoryAttention::new(self, device),
            memory_encoder: MemoryEncoder::new(self, device),
            obj_ptr_proj: Mlp::new(&[c, c, c, c], device),
            mask_downsample: Conv2dConfig::new([1, 1], [4, 4]).with_stride([4, 4]).init(device),
            maskmem_tpos_enc: small.init([self.memories, 1, 1, m], device),
            no_mem_embed: small.init([1, 1, c], device),
            no_mem_pos_enc: small.init([1, 1, c], device),
            no_obj_ptr: small.init([1, c], device),
            no_obj_embed_spatial: self.version_2_1.then(|| small.init([1, m], device)),
            obj_ptr_tpos_proj: self.version_2_1.then(|| LinearConfig::new(c, m).init(device)),
            image_size: self.image_encoder.image_size,
            pointers: self.pointers,
        }
    }
}

/// A mask that answers, silenced where the object is not there, and the object's pointer.
#[derive(Debug, Clone)]
pub struct ObjectHeads {
    /// Logits, [N, 1, 4h, 4w]; -1024 everywhere where the object is not there.
    pub low_res: Tensor<4>,
    /// Object pointer, [N, C].
    pub pointer: Tensor<2>,
}

impl Sam2 {
    /// Side of the published input, in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// What the side of an input must be a multiple of, in pixels.
    pub fn input_multiple(&self) -> usize {
        let [_, _, window, _] = self.image_encoder.trunk.pos_embed_window.lazy_shape().dims();
        input_multiple(window)
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.no_obj_ptr.lazy_device()
    }

    /// Frames in the memory of one object, and its pointers that are looked at.
    pub fn reach(&self) -> (usize, usize) {
        (self.maskmem_tpos_enc.lazy_shape().dims::<4>()[0], self.pointers)
    }

    /// Precision of the weights.
    pub(crate) fn kind(&self) -> DType {
        self.no_obj_ptr.val().dtype()
    }

    /// Features of images or frames, without any memory.
    ///
    /// # Shapes
    /// [B, 3, H, W], normalised
    pub fn encode(&self, images: Tensor<4>) -> Features {
        let mut levels = self.image_encoder.forward(images).into_iter();
        match (levels.next(), levels.next(), levels.next()) {
            (Some(f0), Some(f1), Some(image)) => {
                let (h1, h0) = self.sam_mask_decoder.high_res(f1, f0);
                Features { image, h1, h0 }
            }
            // An encoder has four levels; one whose fields were emptied gives empty maps.
            _ => {
                let empty = || Tensor::zeros([0, 0, 0, 0], &self.device());
                Features { image: empty(), h1: empty(), h0: empty() }
            }
        }
    }

    /// Features of a image, which has no memory: what an image's prompts, and a video's first ones, are decoded on.
    #[must_use]
    pub fn without_memory(&self, features: Features) -> Features {
        let embed = self.no_mem_embed.val();
        let channels = embed.dims()[2];
        let image = features.image;
        let embed = embed.reshape([1, channels, 1, 1]).cast(image.dtype());
        Features { image: image + embed, ..features }
    }

    /// [`Sam2::encode`] and [`Sam2::without_memory`], as a list of maps that can be kept: the map that prompts meet, and two
    /// finer ones. [`Features::new`] takes them back.
    ///
    /// # Shapes
    /// [B, 3, H, W], normalised -> [B, C, H / 16, W / 16], [B, C / 4, H / 8, W / 8], [B, C / 8, H / 4, W / 4]
    pub fn features(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.without_memory(self.encode(images)).into_maps()
    }

    /// Masks of N prompts on B images.
    ///
    /// Coordinates are in pixels of the network's input. Points are always followed by a padding point; a box is two points
    /// with labels 2 and 3 in front of them.
    ///
    /// # Shapes
    /// `image_of`: N numbers below B; it may be empty where there is one image
    ///
    /// # Errors
    /// Numbers that do not fit.
    pub fn decode(&self, features: &Features, image_of: &[usize], prompts: Prompts) -> Result<Decoded, Sam2Error> {
        let [images, _, height, width] = features.image.dims();
        let (sparse, dense) = self.sam_prompt_encoder.forward(prompts, (STRIDE * height, STRIDE * width));
        let count = sparse.dims()[0];
        let of_one = images == 1 && image_of.is_empty();
        if !of_one && (image_of.len() != count || image_of.iter().any(|image| *image >= images)) {
            let expected = format!("{count} numbers below {images}, one per prompt");
            return Err(Sam2Error::Shape { what: "image_of", found: image_of.to_vec(), expected });
        }
        let positions = self.sam_prompt_encoder.pe_layer.dense(height, width);
        Ok(self.sam_mask_decoder.forward(features, image_of, positions, sparse, dense))
    }

    /// Masks that answer free tokens, such as those of a text: logits at a quarter of the input, to be brought to the image's
    /// size in one step, and predicted IoU.
    ///
    /// # Shapes
    /// `features`: of B images; `tokens`: [N, T, C]; `image_of`: N numbers below B; outputs: [N, M, 4h, 4w] and [N, M], with
    /// M = 3 for [`Answer::Three`], else 1
    ///
    /// # Errors
    /// Numbers that do not fit.
    pub fn decode_tokens(
        &self,
        features: &Features,
        image_of: &[usize],
        tokens: Tensor<3>,
        answer: Answer,
    ) -> Result<(Tensor<4>, Tensor<2>), Sam2Error> {
        let prompts = Prompts { tokens: Some(tokens), ..Prompts::default() };
        Ok(self.decode(features, image_of, prompts)?.answer(answer))
    }

    /// What video makes of decoded masks: an object whose score is not above 0 has no pixels, and a pointer of its own.
    /// [`Answer::Three`] counts as the best of three.
    pub fn heads(&self, decoded: &Decoded, answer: Answer) -> ObjectHeads {
        let answer = if answer == Answer::Three { Answer::BestOfThree } else { answer };
        let (low_res, _) = decoded.answer(answer);
        let [count, _, height, width] = low_res.dims();
        let absent = decoded.object_score.clone().greater_elem(0.0).bool_not();
        let gate: Tensor<4, Bool> = absent.clone().reshape([count, 1, 1, 1]).expand([count, 1, height, width]);
        let pointer = self.obj_ptr_proj.forward(decoded.token(answer));
        ObjectHeads { low_res: low_res.mask_fill(gate, NO_OBJECT_LOGIT), pointer: self.replace_pointer(pointer, absent) }
    }

    /// The pointer of "not there" where `absent`, [N, 1], says so.
    pub(crate) fn replace_pointer(&self, pointer: Tensor<2>, absent: Tensor<2, Bool>) -> Tensor<2> {
        let shape = pointer.dims();
        pointer.mask_where(absent.expand(shape), self.no_obj_ptr.val().expand(shape))
    }

    /// The memory of a frame, before it is rounded for keeping: of the mask itself on prompted frames, of its probabilities
    /// on others.
    ///
    /// # Shapes
    /// `image`: features without any memory, [N, C, h, w]; `logits`: [N, 1, .., ..], resized bilinearly to the input's size;
    /// output: [N, 64, h, w]
    pub fn memorise(&self, image: Tensor<4>, logits: Tensor<4>, prompted: bool) -> Tensor<4> {
        let [_, _, height, width] = image.dims();
        let logits = Resize::BILINEAR.forward(logits, [STRIDE * height, STRIDE * width]);
        let mask = if prompted { logits.greater_elem(0.0).float() } else { sigmoid(logits) };
        self.memory_encoder.forward(image, mask * MEMORY_SCALE + MEMORY_BIAS)
    }
}
