"""Derive solar_power.csv: a year of hourly weather and the power a real plant would have made of it.

Complete in one file: the weather is read from the TMY3 file inside the pvlib package, and every step from sunlight
to alternating current is pvlib's published model of it. See README.md beside this file for sources and licences.

    pip install pvlib && python examples/data/derive_solar_power.py [output.csv]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pvlib

STATION = "723170TYA.CSV"  # Greensboro Piedmont Triad International Airport, North Carolina
YEAR = 1990  # a label only: the months of a typical year come from different years
MODULE = "Canadian_Solar_Inc__CS6K_280M"  # 280 W, 60 monocrystalline cells (CEC table)
INVERTER = "SMA_America__STP24000TL_US_10__480V_"  # 24 kW, three phases (CEC table)
MODULES_PER_STRING, STRINGS = 20, 5  # 28 kW of modules on a 24 kW inverter: it clips on clear cool days
TILT, AZIMUTH = 30.0, 180.0  # degrees: fixed racks, facing south


def weather() -> tuple[pd.DataFrame, pvlib.location.Location]:
    """The station's hours, indexed by the middle of each hour in local standard time, and where it stands."""
    file = Path(pvlib.__file__).parent / "data" / STATION
    hours, site = pvlib.iotools.read_tmy3(file, coerce_year=YEAR, map_variables=True)
    # TMY3 stamps the end of the hour over which the radiation was summed; the sun is taken at its middle.
    hours.index = hours.index - pd.Timedelta(minutes=30)
    place = pvlib.location.Location(site["latitude"], site["longitude"], tz=int(site["TZ"]), altitude=site["altitude"])
    return hours, place


def power(hours: pd.DataFrame, place: pvlib.location.Location) -> pd.Series:
    """Alternating-current power in kW, hour by hour: sun → plane of array → cell → module → inverter."""
    sun = place.get_solarposition(hours.index, pressure=hours["pressure"] * 100, temperature=hours["temp_air"])
    plane = pvlib.irradiance.get_total_irradiance(
        TILT,
        AZIMUTH,
        sun["apparent_zenith"],
        sun["azimuth"],
        dni=hours["dni"],
        ghi=hours["ghi"],
        dhi=hours["dhi"],
        dni_extra=pvlib.irradiance.get_extra_radiation(hours.index),
        albedo=0.2,
        model="haydavies",
    ).fillna(0.0)
    incidence = pvlib.irradiance.aoi(TILT, AZIMUTH, sun["apparent_zenith"], sun["azimuth"])
    effective = plane["poa_direct"] * pvlib.iam.physical(incidence) + plane["poa_diffuse"]
    heat = pvlib.temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_polymer"]
    cell = pvlib.temperature.sapm_cell(plane["poa_global"], hours["temp_air"], hours["wind_speed"], **heat)

    module = pvlib.pvsystem.retrieve_sam("CECMod")[MODULE]
    names = ("alpha_sc", "a_ref", "I_L_ref", "I_o_ref", "R_sh_ref", "R_s", "Adjust")
    diode = pvlib.pvsystem.calcparams_cec(effective, cell, **{name: module[name] for name in names})
    peak = pvlib.pvsystem.max_power_point(*diode, method="newton")
    inverter = pvlib.pvsystem.retrieve_sam("CECInverter")[INVERTER]
    volts, watts = peak["v_mp"] * MODULES_PER_STRING, peak["p_mp"] * MODULES_PER_STRING * STRINGS
    return pvlib.inverter.sandia(volts.fillna(0.0), watts.fillna(0.0), inverter) / 1000


def derive() -> pd.DataFrame:
    """The table as it is written: one row per hour, stamped with the start of the hour, in the units of README.md."""
    hours, place = weather()
    start = hours.index - pd.Timedelta(minutes=30)
    return pd.DataFrame(
        {
            "时间": start.strftime("%Y-%m-%d %H:%M"),
            "辐照度": hours["ghi"].round().astype(int).to_numpy(),
            "温度": hours["temp_air"].round(1).to_numpy(),
            "湿度": hours["relative_humidity"].round().astype(int).to_numpy(),
            "压强": hours["pressure"].round().astype(int).to_numpy(),
            "实发功率": power(hours, place).round(3).to_numpy(),
        }
    )


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("solar_power.csv")
    table = derive()
    table.to_csv(output, index=False, encoding="utf-8", lineterminator="\n")
    print(f"{len(table)} hours, {table['实发功率'].sum() / 1000:.1f} MWh -> {output}")
