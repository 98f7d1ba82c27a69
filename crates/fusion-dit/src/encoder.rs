//! Text and image tokens through SAM's blocks, over everything or in SAM's windows; and the text's attention maps.

use burn::tensor::Tensor;
use nn_ops::attention::softmax;
use nn_ops::precision::to_f32;
use nn_ops::recompute::{cut, segment};
use sam_vit::{Block, Grid, window_partition, window_unpartition};

use crate::config::EncoderAttention;
use crate::net::DitNet;

/// The way of [slots ; image] tokens through the encoder.
#[derive(Clone)]
struct Route {
    /// [B, h, w, C] of the image tokens.
    size: [usize; 4],
    /// Text slots in front of them.
    slots: usize,
    whole: Grid,
    window: Option<Grid>,
}

/// Sees a block, the tokens about to enter it and their way.
type Watch<'a> = dyn FnMut(&Block, Tensor<3>, &Route) + 'a;

impl DitNet {
    /// The image embedding under the given instruction (DIT sec. 3.2 and 3.3); without text, or by a variant that keeps
    /// text out of the encoder, SAM's own.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W], normalised; `text`: [B, L, text_dim]; output: [B, 256, H / patch, W / patch]
    pub fn encode(&self, image: Tensor<4>, text: Option<Tensor<3>>) -> Tensor<4> {
        self.encode_watched(image, text, None)
    }

    /// Where each text slot looks in each block: its attention over the image tokens, mean over heads (paper Fig. 5).
    /// What is missing from a sum of 1 goes to other text. A windowed block has one such sum per window. Empty for a variant
    /// that keeps text out of the encoder.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W]; `text`: [B, L, text_dim]; output: one [B, L, H / patch, W / patch] per block
    pub fn attention(&self, image: Tensor<4>, text: Tensor<3>) -> Vec<Tensor<4>> {
        let mut maps = Vec::new();
        let mut watch = |block: &Block, tokens: Tensor<3>, route: &Route| maps.extend(route.looks(block, &tokens));
        self.encode_watched(image, Some(text), Some(&mut watch));
        maps
    }

    /// How much the image's tokens attend to each other in each block, mean over heads (paper Fig. 5, default SAM): the token in row
    /// `region[0]` and column `region[1]` of the grid, or the mean over all tokens. In a windowed block tokens see their own window only.
    ///
    /// # Shapes
    /// `image`: [B, 3, H, W]; `text`: [B, L, text_dim]; output: one [B, H / patch, W / patch] per block
    pub fn image_attention(&self, image: Tensor<4>, text: Option<Tensor<3>>, region: Option<[usize; 2]>) -> Vec<Tensor<3>> {
        let mut maps = Vec::new();
        let mut watch = |block: &Block, tokens: Tensor<3>, route: &Route| maps.push(route.looked_at(block, tokens, region));
        self.encode_watched(image, text, Some(&mut watch));
        maps
    }

    fn encode_watched(&self, image: Tensor<4>, text: Option<Tensor<3>>, mut watch: Option<&mut Watch<'_>>) -> Tensor<4> {
        let x = self.visual_encoder.embed(image);
        let size @ [batch, height, width, channels] = x.dims();
        let length = height * width;
        let text = text.zip(self.instruction.as_ref()).map(|(text, by)| (by, cut(by.transform(text))));
        let slots = text.as_ref().map_or(0, |(_, text)| text.dims()[1]);
        let device = x.device();
        let side = self.config.sam.image_encoder.window_size;
        let windowed = self.config.attention == EncoderAttention::Windowed;
        let route = Route {
            size,
            slots,
            whole: Grid::new(height, width, slots, &device),
            window: windowed.then(|| Grid::new(side, side, slots, &device)),
        };
        let mut x = x.reshape([batch, length, channels]);
        let mut carried = None;
        for (index, block) in self.visual_encoder.blocks.iter().enumerate() {
            let way = route.clone();
            let Some((instruction, text)) = &text else {
                if let Some(watch) = &mut watch {
                    watch(block, x.clone(), &route);
                }
                x = segment(block, x, move |block, x| way.through(block, x));
                continue;
            };
            let mut written = instruction.slots(index, text, carried.take(), || route.image(x.clone()));
            if instruction.carries_projection() {
                // The next slots are made from these, past the block.
                written = cut(written);
                carried = Some(written.clone());
            }
            if let Some(watch) = &mut watch {
                watch(block, route.tokens(written.clone(), x.clone()), &route);
            }
            x = segment(block, [written, x], move |block, [written, x]| way.through(block, way.tokens(written, x)));
            carried = carried.or_else(|| Some(x.clone().narrow(1, 0, slots)));
        }
        let image = route.image(x);
        self.visual_encoder.neck.forward(image.reshape(size))
    }
}

impl Route {
    /// The window's grid where `block` is to be windowed.
    fn window(&self, block: &Block) -> Option<&Grid> {
        self.window.as_ref().filter(|_| block.window > 0)
    }

    /// The image's tokens out of those in front of or behind a block.
    ///
    /// # Shapes
    /// [B, .. + h w, C] -> [B, h w, C]
    fn image(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, height, width, _] = self.size;
        let length = height * width;
        let before = x.dims()[1] - length;
        if before == 0 { x } else { x.narrow(1, before, length) }
    }

    /// What enters a block: new slots, and the image's tokens out of those behind the block before.
    ///
    /// # Shapes
    /// `written`: [B, slots, C]; `x`: [B, .. + h w, C]; output: [B, slots + h w, C]
    fn tokens(&self, written: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        Tensor::cat(vec![written, self.image(x)], 1)
    }

    /// # Shapes
    /// [B, slots + h w, C] -> the same
    fn through(&self, block: &Block, x: Tensor<3>) -> Tensor<3> {
        let Some(grid) = self.window(block) else { return block.forward_tokens(x, &self.whole) };
        let attended = self.join(block.attn.forward(self.partition(block.norm1.forward(x.clone()), grid), grid), grid);
        let x = x + attended;
        x.clone() + block.mlp.forward(block.norm2.forward(x))
    }

    /// Cuts the image tokens into windows and puts a copy of the slots in front of each.
    ///
    /// # Shapes
    /// [B, slots + h w, C] -> [B * windows, slots + side * side, C]
    fn partition(&self, x: Tensor<3>, grid: &Grid) -> Tensor<3> {
        let [batch, height, width, channels] = self.size;
        let image = window_partition(x.clone().narrow(1, self.slots, height * width).reshape(self.size), grid.height);
        if self.slots == 0 {
            return image;
        }
        let rows = image.dims()[0];
        let copies = [batch, rows / batch, self.slots, channels];
        let text = x.narrow(1, 0, self.slots).unsqueeze_dim::<4>(1).expand(copies).reshape([rows, self.slots, channels]);
        Tensor::cat(vec![text, image], 1)
    }

    /// Undoes [`Route::partition`]; the copies of a slot are averaged.
    fn join(&self, x: Tensor<3>, grid: &Grid) -> Tensor<3> {
        let [batch, height, width, channels] = self.size;
        let rows = x.dims()[0];
        let image = window_unpartition(x.clone().narrow(1, self.slots, grid.height * grid.width), grid.height, self.size);
        let image = image.reshape([batch, height * width, channels]);
        if self.slots == 0 {
            return image;
        }
        let text = x.narrow(1, 0, self.slots).reshape([batch, rows / batch, self.slots, channels]).mean_dim(1);
        Tensor::cat(vec![text.squeeze_dim::<3>(1), image], 1)
    }

    /// The slots' attention over the image in one block. Slots have no relative position, so their plain logits are those
    /// that the block uses.
    ///
    /// # Shapes
    /// `x`: [B, slots + h w, C]; output: [B, slots, h, w], none without slots
    fn looks(&self, block: &Block, x: &Tensor<3>) -> Option<Tensor<4>> {
        if self.slots == 0 {
            return None;
        }
        let [batch, height, width, _] = self.size;
        let normed = block.norm1.forward(x.clone());
        let window = self.window(block);
        let tokens = match window {
            Some(grid) => self.partition(normed, grid),
            None => normed,
        };
        let [q, k, _] = block.attn.project(tokens);
        let [_, _, length, head] = q.dims();
        let q = q.narrow(2, 0, self.slots) * (1.0 / (head as f64).sqrt());
        let map = to_f32(softmax(q.matmul(k.swap_dims(2, 3)), 3)).mean_dim(1).squeeze_dim::<3>(1);
        let map = map.narrow(2, self.slots, length - self.slots);
        Some(match window {
            Some(grid) => {
                let to = [batch, height, width, self.slots];
                window_unpartition(map.swap_dims(1, 2), grid.height, to).permute([0, 3, 1, 2])
            }
            None => map.reshape([batch, self.slots, height, width]),
        })
    }

    /// The image tokens' attention to each other in one block, of one token or the mean over all.
    ///
    /// # Shapes
    /// `x`: [B, slots + h w, C]; output: [B, h, w]
    fn looked_at(&self, block: &Block, x: Tensor<3>, region: Option<[usize; 2]>) -> Tensor<3> {
        let [batch, height, width, _] = self.size;
        let normed = block.norm1.forward(x);
        let Some(grid) = self.window(block) else {
            let query = region.map(|[row, column]| row * width + column);
            return block.attn.attention_map(normed, &self.whole, query).reshape([batch, height, width]);
        };
        let side = grid.height;
        let query = region.map(|[row, column]| row % side * side + column % side);
        let windows = self.partition(normed, grid);
        let count = windows.dims()[0];
        let map = block.attn.attention_map(windows, grid, query).reshape([count, side * side, 1]);
        let map = window_unpartition(map, side, [batch, height, width, 1]).reshape([batch, height, width]);
        let Some([row, column]) = region else { return map };
        // The same place in the other windows was asked, too.
        let own = |at: usize, of: usize| (at / side * side, (at / side * side + side).min(of));
        let ((top, bottom), (left, right)) = (own(row, height), own(column, width));
        let inside = map.slice([0..batch, top..bottom, left..right]);
        Tensor::zeros([batch, height, width], &inside.device()).slice_assign([0..batch, top..bottom, left..right], inside)
    }
}
