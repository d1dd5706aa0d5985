# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # CycleGAN in five minutes
#
# This notebook trains a CycleGAN on the photographs of apples and oranges that come with the package, resumes the run,
# translates an image of your own, and exports the model. It needs nothing but the package: `pip install .` in a
# checkout, and a kernel that uses that environment. A CPU is enough.

# %% [markdown]
# ## Train
#
# `fit` does what the command `cyclegan train --preset=demo` does. The steps of this notebook take a minute or two on
# two CPU cores; the preset itself has 4000.

# %%
import cyclegan_tf

STEPS = 200
config = cyclegan_tf.Config.preset("demo", max_steps=STEPS, sample_every=100)
result = cyclegan_tf.fit(config, workdir="runs/quickstart")

# %% [markdown]
# ## Look
#
# The run directory has a grid of held-out images and their translations for every 100 steps, and a page `index.html`
# that shows the whole run. After so few steps, the translations are blurred.

# %%
from IPython.display import Image

Image(f"{result.workdir}/samples/step-{STEPS:06}.png")

# %% [markdown]
# ## Resume
#
# The same call with more steps continues from the newest checkpoint. It also continues a run that you interrupted.

# %%
import dataclasses

result = cyclegan_tf.fit(dataclasses.replace(config, max_steps=2 * STEPS), workdir="runs/quickstart")
Image(f"{result.workdir}/samples/step-{2 * STEPS:06}.png")

# %% [markdown]
# ## Translate an image of your own
#
# Replace PHOTO with the path of a photograph. `load` takes a run directory, or `"demo"`: the model in the package,
# which was trained for longer.

# %%
from importlib.resources import files

import PIL.Image

PHOTO = next((files("cyclegan_tf") / "data" / "demo_images" / "testA").iterdir())
orange = cyclegan_tf.load("demo").translate(str(PHOTO))  # An array (H, W, 3) of uint8.
PIL.Image.fromarray(orange)

# %% [markdown]
# `cyclegan_tf.load(result.workdir)` loads the run of this notebook, and `direction="b2a"` its second generator.

# %%
apple = cyclegan_tf.load(result.workdir, direction="b2a").translate(orange)
PIL.Image.fromarray(apple)

# %% [markdown]
# ## Export
#
# The run directory has SavedModels in `export/a2b` and `export/b2a`, which TensorFlow loads without this package. The
# command `cyclegan export` writes other formats. It runs the exported file in a new process and compares the images.

# %%
import sys

# !{sys.executable} -m cyclegan_tf export --model={result.workdir} --format=keras --output=exports --overwrite

# %% [markdown]
# ## Continue
#
# - Your own images: `cyclegan_tf.Config.preset("fast_cpu", dataset="FOLDER")`, where FOLDER has the subfolders `trainA`
#   and `trainB`.
# - How good is it? `cyclegan evaluate --model=runs/quickstart`
# - The pages in `docs/` explain options, measures, exports, and networks of your own.
